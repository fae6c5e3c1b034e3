//! An event as one log line.
//!
//! Levels: error means that someone must act, warn that quality is lost, info that the state changed, debug the rest.
//! The target is `llama_warden::fact`, so that a filter can pick the events.

use std::fmt::Display;

use llama_warden_events::{
    CanaryOutcome, CommandSummary, Envelope, Event, FileRefusal, HookOutcome, ListenerOwner, MemoryEstimate, ServerId,
    Signal,
};

/// The target of the lines.
pub(crate) const TARGET: &str = "llama_warden::fact";

/// Writes an event with the place of its macro, fields of its own, and a text without values.
macro_rules! log {
    ($level:ident, $envelope:expr, $($fields_and_text:tt)+) => {
        tracing::$level!(
            target: $crate::line::TARGET,
            seq = $envelope.seq.get(),
            event = $envelope.event.kind(),
            server = $envelope.server.as_ref().map(ServerId::as_str),
            incarnation = $envelope.incarnation.map(|incarnation| incarnation.get()),
            $($fields_and_text)+
        )
    };
}

/// Logs an event.
pub(crate) fn log_event(envelope: &Envelope) {
    match &envelope.event {
        Event::DaemonStarted { version, pid, profile, router } => {
            let router = router.as_ref().map(|router| &*router.base_url);
            log!(info, envelope, version, pid, profile, router, "daemon started");
        }
        Event::DaemonStopping { trigger } => log!(info, envelope, trigger, "daemon stops every server"),
        Event::DaemonStopped { survivors } if survivors.is_empty() => log!(info, envelope, "daemon stopped"),
        Event::DaemonStopped { survivors } => {
            log!(error, envelope, survivors = listed(survivors), "daemon stopped; processes outlived the deadline");
        }
        Event::GuardianStarted { pid } => log!(debug, envelope, guardian = pid, "guardian started"),
        Event::ComponentFailed { component, error } => log!(error, envelope, component, error, "component failed"),
        Event::ServerConfigured { card } => log!(debug, envelope, port = card.port, "server configured"),
        Event::ServerRemoved => log!(info, envelope, "server removed from the configuration"),
        // The event that follows says what happens, and why.
        Event::CommandAccepted { command: command @ (CommandSummary::ShutDown | CommandSummary::Reload), .. } => {
            log!(debug, envelope, %command, "command accepted");
        }
        Event::CommandAccepted { command, .. } => log!(info, envelope, %command, "command accepted"),
        Event::CommandCompleted { outcome } => {
            log!(info, envelope, %outcome, command = envelope.cause.map(|cause| cause.get()), "command completed");
        }
        Event::RestartScheduled { attempt, max_attempts, delay_seconds } => {
            let delay_seconds = rounded(*delay_seconds);
            log!(info, envelope, attempt, max_attempts, delay_seconds, "restart scheduled");
        }
        Event::CanaryBegan { binary, switch } => {
            log!(info, envelope, binary = %binary.display(), switch, "canary began");
        }
        Event::CanaryCompleted { report } => match &report.outcome {
            CanaryOutcome::Passed | CanaryOutcome::Switched | CanaryOutcome::Cancelled => {
                log!(info, envelope, outcome = %report.outcome, "canary completed");
            }
            CanaryOutcome::Failed { reason, detail, .. } => log!(warn, envelope, %reason, detail, "canary failed"),
            CanaryOutcome::RolledBack { detail } => log!(warn, envelope, detail, "build rolled back"),
        },
        Event::Extension(event) => {
            log!(info, envelope, source = event.source, kind = event.kind, data = %event.data, "extension event");
        }
        Event::RestartCancelled => log!(info, envelope, "restart cancelled"),
        Event::RestartAbandoned { attempts, because } => {
            log!(error, envelope, attempts, because, "server is not started again");
        }
        Event::TotalsRestored { totals } => {
            log!(debug, envelope, launches = totals.launches, "counters go on from the earlier daemon");
        }
        Event::ServerLeftDown { failed: None } => {
            log!(
                warn,
                envelope,
                "server stays down: it was stopped by hand under the earlier daemon; start it by hand"
            );
        }
        Event::ServerLeftDown { failed: Some(failed) } => {
            let (reason, detail) = (failed.reason, &failed.detail);
            log!(error, envelope, %reason, detail, "server stays down: it had failed under the earlier daemon; start it by hand");
        }
        Event::ProfilesConfigured { profiles } => log!(debug, envelope, count = profiles.len(), "profiles configured"),
        Event::SwitchPlanned { plan } => {
            let [stop, start, restart, keep] =
                [&plan.stop, &plan.start, &plan.restart, &plan.keep].map(|list| listed(list));
            log!(info, envelope, profile = plan.profile, stop, start, restart, keep, "switch planned");
        }
        Event::ProfileActivated { profile: Some(profile) } => log!(info, envelope, profile, "profile activated"),
        Event::ProfileActivated { profile: None } => log!(info, envelope, "no profile is active any more"),
        Event::ConfigurationReloaded { trigger } => log!(info, envelope, trigger, "configuration reloaded"),
        Event::ConfigurationRefused { trigger, detail } => {
            log!(error, envelope, trigger, detail, "configuration refused; what is in force stays");
        }
        Event::MemoryEstimated { estimate } => {
            let MemoryEstimate { weights_bytes, kv_bytes, compute_bytes, gpu_bytes } = estimate;
            log!(debug, envelope, weights_bytes, kv_bytes, compute_bytes, gpu_bytes, "memory estimated");
        }
        Event::LaunchHeld { because } => log!(info, envelope, because, "launch waits for memory"),
        Event::LaunchReleased => log!(debug, envelope, "launch waits no more"),
        Event::LaunchSkipped { because } => {
            log!(info, envelope, because, "server is not started before somebody wants it")
        }
        Event::EvictionPlanned { victims, because } => {
            log!(info, envelope, ?victims, %because, "other servers make room for it");
        }
        Event::UseBegan => log!(debug, envelope, "use began"),
        Event::UseEnded { last_used } => {
            let idle_seconds = rounded(envelope.elapsed.since(*last_used).as_secs_f64());
            log!(debug, envelope, idle_seconds, "use ended");
        }
        Event::ServerReleased { left: 0 } => log!(debug, envelope, "no request goes to the server any more"),
        Event::ServerReleased { left } => log!(warn, envelope, left, "requests are cut off: their time is over"),
        Event::SlotsSaved { slots, tokens, bytes } => log!(info, envelope, slots, tokens, bytes, "slots saved"),
        Event::SlotsRestored { slots, tokens } => log!(info, envelope, slots, tokens, "slots restored"),
        Event::SlotsUsed { cached } => log!(info, envelope, cached, "an answer has used the restored slots"),
        Event::SlotsLost { because, off: true } => {
            log!(warn, envelope, because, "slots are not kept with this executable, model and arguments");
        }
        Event::SlotsLost { because, off: false } => log!(info, envelope, because, "slots are not kept this time"),
        Event::LaunchBegan { binary } => log!(info, envelope, binary = %binary.display(), "launch began"),
        Event::BinaryIdentified(identity) => {
            let (binary, version) = (identity.binary.display(), identity.version.as_deref());
            log!(debug, envelope, %binary, version, "binary identified");
        }
        Event::DialectsReloaded { dialects, removed, refused } if refused.is_empty() => {
            log!(info, envelope, dialects = listed(dialects), removed = listed(removed), "flag dialects reloaded");
        }
        Event::DialectsReloaded { dialects, removed, refused } => {
            log!(
                warn,
                envelope,
                dialects = listed(dialects),
                removed = listed(removed),
                refused = said(refused),
                "flag dialects were refused"
            );
        }
        Event::DialectChosen { dialect, because } => {
            log!(debug, envelope, dialect = &**dialect, because, "dialect chosen")
        }
        Event::OptionsTranslated { notes } => {
            let options: Vec<&str> = notes.iter().map(|note| &*note.option).collect();
            log!(debug, envelope, options = listed(&options), "options translated");
        }
        Event::DaemonHandingOver { trigger } => {
            log!(info, envelope, trigger, "daemon leaves every server to the next one");
        }
        Event::ServerAdopted { age_seconds, was_ready, .. } => {
            log!(
                info,
                envelope,
                age_seconds = rounded(*age_seconds),
                was_ready,
                "server taken over from an earlier daemon"
            );
        }
        Event::ServerSpawned { pid, port, .. } => log!(info, envelope, pid, port, "server spawned"),
        Event::SignalDelivered { signal, rung } => {
            log!(debug, envelope, %signal, rung = rung.index, "signal delivered");
        }
        Event::ListenerIdentified { listener: ListenerOwner::Foreign { pid, program } } => {
            log!(warn, envelope, pid, program, "somebody else listens on the port");
        }
        Event::ListenerIdentified { listener } => log!(debug, envelope, %listener, "listener identified"),
        Event::ServerExited { end, swept } => log!(info, envelope, %end, swept, "server exited"),
        Event::OutputLost { stream, consumer, lines } => {
            log!(warn, envelope, %stream, consumer, lines, "output was lost to a slow reader");
        }
        Event::DetectorChosen { detector, because } => {
            log!(debug, envelope, detector = &**detector, because, "detector chosen")
        }
        Event::DetectorsReloaded { packs, removed, refused } if refused.is_empty() => {
            log!(info, envelope, packs = listed(packs), removed = listed(removed), "detector packs reloaded");
        }
        Event::DetectorsReloaded { packs, removed, refused } => {
            log!(
                warn,
                envelope,
                packs = listed(packs),
                removed = listed(removed),
                refused = said(refused),
                "detector packs were refused"
            );
        }
        Event::ReadyHinted { stream, line } => log!(debug, envelope, %stream, line, "ready hinted"),
        Event::LoadProgressed { ratio } => log!(debug, envelope, ratio = ratio.map(rounded), "load progressed"),
        Event::ReadyReached { via, startup_seconds } => {
            let startup_seconds = rounded(*startup_seconds);
            log!(info, envelope, %via, startup_seconds, "server is ready");
        }
        Event::HealthProbed { ok, latency_seconds, failures, is_sleeping, .. } => {
            let latency_seconds = rounded(*latency_seconds);
            log!(debug, envelope, ok, latency_seconds, failures, is_sleeping, "health probed");
        }
        Event::ReadyLost { detail } => log!(warn, envelope, detail, "server no longer answers as ready"),
        Event::ReadyRegained => log!(info, envelope, "server answers as ready again"),
        Event::ServerFailed { reason, detail, lines } => {
            log!(error, envelope, %reason, detail, last_line = lines.last(), "server failed");
        }
        Event::ServerWarned { warning, detail } => log!(warn, envelope, %warning, detail, "server lost quality"),
        Event::HookCompleted { hook, outcome: HookOutcome::Succeeded, seconds } => {
            log!(info, envelope, %hook, seconds = rounded(*seconds), "hook completed");
        }
        Event::HookCompleted { hook, outcome: HookOutcome::Failed { detail, .. }, seconds } => {
            log!(warn, envelope, %hook, seconds = rounded(*seconds), detail, "hook failed");
        }
        Event::HookCompleted { hook, outcome: HookOutcome::CalledOff, seconds } => {
            log!(info, envelope, %hook, seconds = rounded(*seconds), "hook called off");
        }
        Event::StopBegan { reason, grace_seconds } => {
            log!(info, envelope, %reason, grace_seconds = rounded(*grace_seconds), "stop began");
        }
        Event::StopEscalated { rung, early: true } if rung.signal == Signal::KILL => {
            log!(warn, envelope, signal = %rung.signal, "server is killed before its grace is over, as requested");
        }
        Event::StopEscalated { rung, .. } if rung.signal == Signal::KILL => {
            log!(warn, envelope, signal = %rung.signal, "server did not end in its grace and is killed");
        }
        Event::StopEscalated { rung, .. } => {
            log!(info, envelope, signal = %rung.signal, "stop escalated");
        }
        Event::ServerStopped { reason, forced, stop_seconds } => {
            let stop_seconds = rounded(*stop_seconds);
            log!(info, envelope, %reason, forced, stop_seconds, "server stopped");
        }
    }
}

/// The number with three decimals: further digits are of no use to a reader, and sums of fractions have many.
fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// The names of a list; `None`, and so no field, for none.
fn listed(names: &[impl Display]) -> Option<String> {
    (!names.is_empty()).then(|| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
}

/// Refused files as people and editors read them: place, problem, what to do.
fn said(refused: &[FileRefusal]) -> String {
    let said = |refusal: &FileRefusal| {
        let FileRefusal { file, line, column, message, advice } = refusal;
        let place: String = [line, column].into_iter().flatten().map(|number| format!(":{number}")).collect();
        format!("{}{place}: {message}; {advice}", file.display())
    };
    refused.iter().map(said).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use llama_warden_component_kit::{card, server};
    use llama_warden_events::{
        BootId, CommandOutcome, FailureReason, HookPoint, Incarnation, ProcessEnd, ReadyVia, Rung, Seq, StopReason,
        StreamName, Timestamp, Uptime, Warning,
    };
    use tracing::Level;

    use super::*;
    use llama_warden_component_kit::RecordedLog;

    fn recorded(event: Event) -> (Level, String) {
        let envelope = Envelope {
            seq: Seq::new(17),
            boot: BootId::from_random(1),
            at: Timestamp::new("2026-11-22T13:05:01Z".parse().expect("valid")),
            elapsed: Uptime::new(Duration::from_secs(1)),
            server: Some(server("a")),
            incarnation: Some(Incarnation::new(3)),
            cause: None,
            event,
        };
        let recorded = RecordedLog::default();
        tracing::subscriber::with_default(recorded.subscriber(), || log_event(&envelope));
        let mut events = recorded.take();
        assert_eq!(events.len(), 1, "one event is one line");
        events.remove(0)
    }

    #[test]
    fn each_event_has_the_level_that_its_weight_deserves() {
        let rung = |signal| Rung { index: 1, signal };
        let hook = |outcome| Event::HookCompleted { hook: HookPoint::PostReady, outcome, seconds: 0.1 };
        let lost = Event::OutputLost { stream: StreamName::Stderr, consumer: "file".into(), lines: 9 };
        let failed =
            Event::ServerFailed { reason: FailureReason::Crashed, detail: "gone".into(), lines: vec!["last".into()] };
        let dialects = |refused| Event::DialectsReloaded { dialects: [].into(), removed: [].into(), refused };
        let (message, advice) = ("no".to_owned(), "fix it".to_owned());
        let refusal = FileRefusal { file: "/d.toml".into(), line: Some(1), column: Some(1), message, advice };
        let table = [
            (Event::DaemonStarted { version: "1".into(), pid: 1, profile: None, router: None }, Level::INFO),
            (Event::DaemonStopping { trigger: "TERM".into() }, Level::INFO),
            (Event::DaemonStopped { survivors: vec![] }, Level::INFO),
            (Event::DaemonStopped { survivors: vec![server("a")] }, Level::ERROR),
            (Event::ComponentFailed { component: "api".into(), error: "bind".into() }, Level::ERROR),
            (Event::ServerConfigured { card: card(&server("a")).into() }, Level::DEBUG),
            (Event::ServerRemoved, Level::INFO),
            (Event::CommandAccepted { command: CommandSummary::Start, trace: None }, Level::INFO),
            (Event::CommandAccepted { command: CommandSummary::ShutDown, trace: None }, Level::DEBUG),
            (Event::CommandCompleted { outcome: CommandOutcome::Ready }, Level::INFO),
            (dialects([].into()), Level::INFO),
            (dialects([refusal].into()), Level::WARN),
            (Event::DialectChosen { dialect: "x".into(), because: "y".into() }, Level::DEBUG),
            (Event::LaunchBegan { binary: "/bin/x".into() }, Level::INFO),
            (Event::ServerSpawned { pid: 7, start_ticks: 8, argv: [].into(), port: 1 }, Level::INFO),
            (Event::LoadProgressed { ratio: Some(0.5) }, Level::DEBUG),
            (Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 1.0 }, Level::INFO),
            (
                Event::HealthProbed {
                    ok: true,
                    latency_seconds: 0.001,
                    latency_ms: 1.0,
                    failures: 0,
                    is_sleeping: false,
                },
                Level::DEBUG,
            ),
            (Event::ReadyLost { detail: "503".into() }, Level::WARN),
            (Event::ReadyRegained, Level::INFO),
            (Event::SignalDelivered { signal: Signal::TERM, rung: rung(Signal::TERM) }, Level::DEBUG),
            (Event::ListenerIdentified { listener: ListenerOwner::Own }, Level::DEBUG),
            (Event::ListenerIdentified { listener: ListenerOwner::Foreign { pid: None, program: None } }, Level::WARN),
            (Event::ServerExited { end: ProcessEnd::Exited { code: 0 }, swept: 0 }, Level::INFO),
            (lost, Level::WARN),
            (failed, Level::ERROR),
            (Event::ServerWarned { warning: Warning::ReadyAssumed, detail: "cap".into() }, Level::WARN),
            (hook(HookOutcome::Succeeded), Level::INFO),
            (hook(HookOutcome::Failed { detail: "code 3".into(), lines: [].into() }), Level::WARN),
            (hook(HookOutcome::CalledOff), Level::INFO),
            (Event::StopBegan { reason: StopReason::Requested, grace_seconds: 10.0 }, Level::INFO),
            (Event::StopEscalated { rung: rung(Signal::INT), early: false }, Level::INFO),
            (Event::StopEscalated { rung: rung(Signal::KILL), early: true }, Level::WARN),
            (Event::ServerStopped { reason: StopReason::Requested, forced: false, stop_seconds: 0.1 }, Level::INFO),
            (Event::RestartScheduled { attempt: 1, max_attempts: None, delay_seconds: 1.0 }, Level::INFO),
        ];
        for (event, level) in table {
            assert_eq!(recorded(event.clone()).0, level, "{event:?}");
        }
    }

    #[test]
    fn values_are_fields_and_the_text_is_constant() {
        let (_, fields) = recorded(Event::ReadyReached { via: ReadyVia::Stderr, startup_seconds: 4.500_123_999_999 });
        for field in [
            "message=server is ready ",
            "seq=17 ",
            "server=\"a\" ",
            "incarnation=3 ",
            "via=stderr ",
            "startup_seconds=4.5 ",
        ] {
            assert!(fields.contains(field), "{field}in {fields}");
        }
    }

    #[test]
    fn refused_files_are_said_with_place_problem_and_advice() {
        let refusal = |file: &str, line, column| FileRefusal {
            file: file.into(),
            line,
            column,
            message: "unknown key `bulids`".into(),
            advice: "write `builds`".into(),
        };
        let refused: Box<[_]> = Box::new([refusal("/d/a.toml", Some(4), Some(1)), refusal("/d/b.toml", None, None)]);
        let expected = "refused=\"/d/a.toml:4:1: unknown key `bulids`; write `builds` \
                        | /d/b.toml: unknown key `bulids`; write `builds`\" ";
        let detectors = Event::DetectorsReloaded { packs: [].into(), removed: [].into(), refused: refused.clone() };
        let dialects = Event::DialectsReloaded { dialects: [].into(), removed: [].into(), refused };
        for event in [detectors, dialects] {
            let (_, fields) = recorded(event);
            assert!(fields.contains(expected), "{fields}");
        }
    }

    /// Fault S35.
    #[test]
    fn a_secret_of_the_command_line_has_no_way_into_the_log() {
        let argv = ["--api-key", "hunter2"].into();
        let (_, fields) = recorded(Event::ServerSpawned { pid: 7, start_ticks: 8, argv, port: 1 });
        assert!(!fields.contains("hunter2"), "{fields}");
    }
}
