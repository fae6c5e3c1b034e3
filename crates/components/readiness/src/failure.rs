//! The failures of a launch in words: what happened, and the next step for the user.

use llama_warden_events::{FailureReason, ProcessEnd, Signal};

/// The failure of a launch, without its last lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadinessFailure {
    /// The reason, from the closed set.
    pub reason: FailureReason,
    /// The same in words, with the next step where there is one.
    pub detail: String,
}

/// A line whose verdict is a failure: it explains the end of the process, if the process ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureEvidence {
    /// The reason that the line gives.
    pub reason: FailureReason,
    /// The lowest is the most specific.
    pub rank: u16,
    /// The line.
    pub line: String,
}

impl ReadinessFailure {
    /// A failure with a text of what happened and the next step for its reason.
    pub(crate) fn new(reason: FailureReason, what: impl std::fmt::Display) -> Self {
        let detail = match next_step(reason) {
            Some(step) => format!("{what}: {step}"),
            None => what.to_string(),
        };
        Self { reason, detail }
    }

    /// The process of a launch ended of which nothing else was seen, and which nobody stopped.
    pub fn at_unwatched_exit(was_ready: bool, end: ProcessEnd, evidence: Option<FailureEvidence>) -> Self {
        let judge = if was_ready { Self::at_exit_after_ready } else { Self::at_exit_before_ready };
        judge(end, evidence)
    }

    /// The process ended before the server was ready.
    pub(crate) fn at_exit_before_ready(end: ProcessEnd, evidence: Option<FailureEvidence>) -> Self {
        match evidence {
            _ if end == ProcessEnd::OutOfMemory => Self::new(FailureReason::OutOfMemory, told(end)),
            Some(evidence) => Self::new(evidence.reason, format_args!("{} ({end})", evidence.line)),
            None if is_broken(end) => Self::new(FailureReason::BinaryBroken, told(end)),
            None => Self::new(FailureReason::ExitedBeforeReady, format_args!("{} before it was ready", told(end))),
        }
    }

    /// The process ended by itself after the server was ready. Its clients can make it print any line by then, so that no line
    /// decides what happens next: lack of memory is restarted like a crash. What no server survives is told, lack of memory and
    /// code that its device does not run. A ready server logs and survives every other failure.
    pub(crate) fn at_exit_after_ready(end: ProcessEnd, evidence: Option<FailureEvidence>) -> Self {
        use FailureReason::{BinaryBroken, Crashed, Ended, OutOfMemory};
        if end == ProcessEnd::OutOfMemory {
            return Self::new(OutOfMemory, told(end));
        }
        if is_broken(end) {
            return Self::new(BinaryBroken, told(end));
        }
        if end.is_success() {
            return Self::new(Ended, told(end));
        }
        match evidence.filter(|_| ends_itself(end)) {
            Some(FailureEvidence { reason: OutOfMemory, line, .. }) => {
                Self::new(OutOfMemory, format_args!("{line} ({end})"))
            }
            Some(FailureEvidence { reason: BinaryBroken, line, .. }) => {
                Self::new(Crashed, format_args!("{line} ({end})"))
            }
            _ => Self::new(Crashed, told(end)),
        }
    }
}

/// Whether the end itself says that the executable cannot run here: the codes of a shell and of the loader for a program that
/// cannot be run (llama-server uses neither), and an instruction that this CPU does not have.
fn is_broken(end: ProcessEnd) -> bool {
    match end {
        ProcessEnd::Exited { code } => matches!(code, 126 | 127 | 132),
        ProcessEnd::Signaled { signal, .. } => signal == Signal::ILL,
        ProcessEnd::OutOfMemory | ProcessEnd::Unknown => false,
    }
}

/// Whether a program that cannot go on ends like this: by `abort`, or with a code of its own.
const fn ends_itself(end: ProcessEnd) -> bool {
    matches!(end, ProcessEnd::Exited { code: 1..=125 } | ProcessEnd::Signaled { signal: Signal::ABRT, .. })
}

/// The end of a process that we did not stop, in words.
fn told(end: ProcessEnd) -> String {
    match end {
        ProcessEnd::OutOfMemory => "the kernel killed it because memory ran out".to_owned(),
        // Only another process sends these. A shell ends with 128 and the signal of the program that it waited for.
        ProcessEnd::Signaled {
            signal: Signal::KILL | Signal::TERM | Signal::INT | Signal::HUP | Signal::QUIT, ..
        } => {
            format!("another process ended it with {end}")
        }
        ProcessEnd::Exited { code: code @ (129 | 130 | 131 | 137 | 143) } => {
            let signal = Signal::from_number(i32::from(code) - 128);
            format!(
                "another process ended it: {end}, as after signal {}",
                signal.map_or_else(|_| "?".to_owned(), |signal| signal.to_string())
            )
        }
        ProcessEnd::Signaled { signal: Signal::ILL, .. } | ProcessEnd::Exited { code: 132 } => {
            format!("ended with {end}: it uses instructions that this CPU does not have")
        }
        ProcessEnd::Exited { code: 126 | 127 } => format!("ended with {end}: a program could not be run"),
        // Mostly the former: what kills a shim takes the server along.
        ProcessEnd::Unknown => "its status is not known: its shim was killed, or another process took it".to_owned(),
        _ => format!("ended by itself with {end}"),
    }
}

fn next_step(reason: FailureReason) -> Option<&'static str> {
    Some(match reason {
        FailureReason::BadArgument => "compare `llama-warden argv` with what this build's --help lists",
        FailureReason::BinaryBroken => "install what is missing, or use a build for this machine",
        FailureReason::ModelNotFound => "check the path or the name of the model",
        FailureReason::FileNotFound => "check its path; it is looked for again",
        FailureReason::ModelInvalid => "fetch or convert the model again, or use a newer build",
        FailureReason::OutOfMemory => "lower ctx-size, or use a smaller model or fewer GPU layers",
        FailureReason::PortInUse => {
            "free the port, configure another one, or check that `host` is an address of this machine"
        }
        FailureReason::IdentityMismatch => "check `model`, `port` and --alias",
        FailureReason::ExitedBeforeReady | FailureReason::Stalled => "`llama-warden logs` shows what it said",
        FailureReason::ReadyTimeout => "raise `readiness.timeout`, or see `llama-warden logs`",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn exited(code: u8) -> ProcessEnd {
        ProcessEnd::Exited { code }
    }

    const fn signaled(signal: Signal) -> ProcessEnd {
        ProcessEnd::Signaled { signal, core_dumped: false }
    }

    #[test]
    fn an_end_is_told_as_what_it_was() {
        use FailureReason::{BinaryBroken, Crashed, Ended, ExitedBeforeReady};
        let cases = [
            (exited(0), ExitedBeforeReady, Ended, "ended by itself with exit code 0"),
            (exited(1), ExitedBeforeReady, Crashed, "ended by itself with exit code 1"),
            (signaled(Signal::ABRT), ExitedBeforeReady, Crashed, "ended by itself with signal ABRT"),
            (signaled(Signal::KILL), ExitedBeforeReady, Crashed, "another process ended it with signal KILL"),
            (signaled(Signal::TERM), ExitedBeforeReady, Crashed, "another process ended it with signal TERM"),
            (exited(137), ExitedBeforeReady, Crashed, "another process ended it: exit code 137, as after signal KILL"),
            (ProcessEnd::Unknown, ExitedBeforeReady, Crashed, "its shim was killed"),
            (exited(127), BinaryBroken, BinaryBroken, "ended with exit code 127: a program could not be run"),
            (signaled(Signal::ILL), BinaryBroken, BinaryBroken, "instructions that this CPU does not have"),
            (exited(132), BinaryBroken, BinaryBroken, "instructions that this CPU does not have"),
        ];
        for (end, before_ready, after_ready, text) in cases {
            let before = ReadinessFailure::at_exit_before_ready(end, None);
            let after = ReadinessFailure::at_exit_after_ready(end, None);
            assert_eq!((before.reason, after.reason), (before_ready, after_ready), "{end}");
            assert!(before.detail.contains(text) && after.detail.contains(text), "{before:?} {after:?}");
        }
    }

    #[test]
    fn a_kill_by_the_kernel_is_out_of_memory_whatever_was_written() {
        let evidence = FailureEvidence { reason: FailureReason::ModelInvalid, rank: 1, line: "bad".to_owned() };
        for evidence in [None, Some(evidence)] {
            for failure in [
                ReadinessFailure::at_exit_before_ready(ProcessEnd::OutOfMemory, evidence.clone()),
                ReadinessFailure::at_exit_after_ready(ProcessEnd::OutOfMemory, evidence.clone()),
            ] {
                assert_eq!(failure.reason, FailureReason::OutOfMemory);
                assert!(failure.detail.starts_with("the kernel killed it because memory ran out: lower ctx-size"));
            }
        }
    }

    #[test]
    fn a_line_explains_an_end_after_ready_only_where_no_server_survives_what_it_says() {
        let evidence = |reason| Some(FailureEvidence { reason, rank: 1, line: "why".to_owned() });
        for (reason, expected, is_told) in [
            (FailureReason::OutOfMemory, FailureReason::OutOfMemory, true),
            (FailureReason::BinaryBroken, FailureReason::Crashed, true),
            (FailureReason::ModelInvalid, FailureReason::Crashed, false),
        ] {
            let after = ReadinessFailure::at_exit_after_ready(exited(1), evidence(reason));
            assert_eq!((after.reason, after.detail.starts_with("why (exit code 1)")), (expected, is_told));
            assert_eq!(ReadinessFailure::at_exit_before_ready(exited(1), evidence(reason)).reason, reason);
        }
    }

    #[test]
    fn whatever_a_client_made_it_print_a_ready_server_is_started_again() {
        let ends = [exited(0), exited(1), signaled(Signal::ABRT), signaled(Signal::KILL)];
        for (end, reason) in
            ends.into_iter().flat_map(|end| FailureReason::ALL.into_iter().map(move |reason| (end, reason)))
        {
            let evidence = FailureEvidence { reason, rank: 0, line: "forged".to_owned() };
            let failure = ReadinessFailure::at_exit_after_ready(end, Some(evidence));
            assert!(!failure.reason.is_permanent() && failure.reason.awaited().is_none(), "{end} {reason} {failure:?}");
        }
        let killed = signaled(Signal::KILL);
        let evidence = FailureEvidence { reason: FailureReason::OutOfMemory, rank: 0, line: "forged".to_owned() };
        assert_eq!(ReadinessFailure::at_exit_after_ready(killed, Some(evidence)).reason, FailureReason::Crashed);
    }
}
