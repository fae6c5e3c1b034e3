//! Handles signals to the daemon: the first shuts down with grace, the second kills the servers, the third leaves at once.
//!
//! | signal | first | second | third |
//! |---|---|---|---|
//! | TERM, INT, PWR, RTMIN+3 | stop every server with its grace | KILL what is left now | leave with 128 + its number |
//! | QUIT | KILL what is left now | leave with 128 + its number | |
//! | HUP | reload the configuration; if the terminal hung up, as TERM | | |
//! | HUP, USR1, USR2 | reopen the event log | | |
//! | every other one that would end a process | nothing, and a warning | | |
//!
//! INT counts also where it was inherited as ignored, as of `llama-warden up &` in a script: Ctrl-C, which ends the script, ends the daemon
//! in order too, so that no server is left behind. `up --detach`, which has a session of its own, gets no Ctrl-C.
//!
//! Left to the kernel: KILL and STOP, which nobody can handle; the stops of job control; the signals that report a fault of
//! the program itself (SEGV, BUS, ILL, FPE, SYS), after which it cannot go on; ABRT, by which systemd's watchdog ends a daemon
//! that is stuck; and those that the C library keeps for itself.

use std::future::poll_fn;
use std::io::IsTerminal;
use std::task::Poll;

use llama_warden_bus::CommandSender;
use llama_warden_event_log::LogReopener;
use llama_warden_events::{Signal, SuperviseCommand};
use llama_warden_exit::CommandFailure;
use nix::libc;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::watch;

use crate::config_watch::warn_not_reloaded;

/// RTMIN+3, by which systemd asks the first process of a container to stop. The number is the kernel's: C libraries reserve
/// different numbers of real-time signals and count from different ones.
const HALT: i32 = 37;

/// Signals without a meaning for the daemon whose default ends a process, beside the real-time signals.
const MEANINGLESS: [i32; 8] = [
    libc::SIGTRAP,
    libc::SIGALRM,
    libc::SIGSTKFLT,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
];

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SignalRequest {
    /// A stop of every server with its grace.
    Stop,
    /// KILL of every server.
    Kill,
    /// A reload; a stop if the terminal is gone.
    HangUp,
    /// Reopening the event log.
    ReopenLog,
    /// Nothing that the daemon knows.
    Nothing,
}

/// The installed handlers.
#[derive(Debug)]
pub struct Signals {
    handlers: Vec<Handler>,
    had_terminal: bool,
}

#[derive(Debug)]
struct Handler {
    signal: Signal,
    request: SignalRequest,
    stream: SignalStream,
}

/// Whether the daemon has a terminal. When a terminal is closed, the kernel sends HUP to the processes on it, and `isatty(3)`
/// on their descriptors fails with EIO from then on.
fn has_terminal() -> bool {
    std::io::stdin().is_terminal() || std::io::stdout().is_terminal() || std::io::stderr().is_terminal()
}

/// What HUP asks for: a reload, unless it came because the terminal that the daemon was started on is gone.
const fn is_reload(had_terminal: bool, has_terminal: bool) -> bool {
    has_terminal || !had_terminal
}

/// Every signal that is handled, the requests first: they are seen first when several signals wait.
fn handled() -> impl Iterator<Item = (i32, SignalRequest)> {
    let meant = [
        (libc::SIGQUIT, SignalRequest::Kill),
        (libc::SIGTERM, SignalRequest::Stop),
        (libc::SIGINT, SignalRequest::Stop),
        (libc::SIGPWR, SignalRequest::Stop),
        (HALT, SignalRequest::Stop),
        (libc::SIGHUP, SignalRequest::HangUp),
        (libc::SIGUSR1, SignalRequest::ReopenLog),
        (libc::SIGUSR2, SignalRequest::ReopenLog),
    ];
    let real_time = (libc::SIGRTMIN()..=libc::SIGRTMAX()).filter(|number| *number != HALT);
    let others = MEANINGLESS.into_iter().chain(real_time);
    meant.into_iter().chain(others.map(|number| (number, SignalRequest::Nothing)))
}

impl Signals {
    /// Installs the handlers. From now on none of these signals ends the process by itself.
    ///
    /// # Errors
    /// The kernel refuses a handler.
    pub fn install() -> Result<Self, CommandFailure> {
        let handler = |(number, request)| {
            let failed = |error: &dyn std::fmt::Display| {
                CommandFailure::failed(format!("cannot handle signal {number}: {error}"))
            };
            Ok(Handler {
                signal: Signal::from_number(number).map_err(|error| failed(&error))?,
                request,
                stream: signal(SignalKind::from_raw(number)).map_err(|error| failed(&error))?,
            })
        };
        let handlers = handled().map(handler).collect::<Result<_, CommandFailure>>()?;
        Ok(Self { handlers, had_terminal: has_terminal() })
    }

    async fn next(&mut self) -> (Signal, SignalRequest) {
        // Polled by hand: a select over fifty branches is unreadable. The handlers live as long as the process.
        poll_fn(|context| {
            let mut handlers = self.handlers.iter_mut();
            match handlers.find_map(|handler| handler.stream.poll_recv(context).is_ready().then_some(&*handler)) {
                Some(Handler { signal, request, .. }) => Poll::Ready((*signal, *request)),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Turns each signal into what it asks for. Resolves with the signal after which the daemon leaves at once. `forced` is set
    /// to the signal that killed the servers: it decides the exit code.
    pub async fn run(
        mut self,
        commands: CommandSender,
        event_log: Option<LogReopener>,
        forced: watch::Sender<Option<Signal>>,
    ) -> Signal {
        let mut urgency = 0;
        loop {
            let (received, request) = self.next().await;
            let trigger = format!("signal {received}");
            if matches!(request, SignalRequest::HangUp | SignalRequest::ReopenLog)
                && let Some(event_log) = &event_log
            {
                event_log.reopen();
            }
            match request {
                SignalRequest::ReopenLog => continue,
                SignalRequest::Nothing => {
                    tracing::warn!(signal = %received, "a signal without a meaning is ignored");
                    continue;
                }
                SignalRequest::HangUp if is_reload(self.had_terminal, has_terminal()) => {
                    // Awaited aside: the next signal may ask for a shutdown.
                    let reload = commands.post(SuperviseCommand::Reload { trigger, force: false });
                    tokio::spawn(async { reload.await.inspect_err(warn_not_reloaded) });
                    continue;
                }
                // Signals add up whatever their kind; QUIT skips the graceful step.
                SignalRequest::Kill => urgency = (urgency + 1).max(2),
                SignalRequest::Stop | SignalRequest::HangUp => urgency += 1,
            }
            if urgency > 2 {
                tracing::warn!(signal = %received, "leaving at once; the kernel kills what is left");
                return received;
            }
            let force = urgency == 2;
            if force {
                tracing::warn!(signal = %received, "every server that is left is killed, as the signal asks");
                forced.send_replace(Some(received));
            }
            if let Err(refused) = commands.send(SuperviseCommand::ShutDown { trigger, force }).await {
                tracing::warn!(%refused, "cannot shut down in order");
                return received;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_terminal_that_is_gone_hangs_up() {
        for (had_terminal, has_terminal, expected) in [(false, false, true), (true, true, true), (true, false, false)] {
            assert_eq!(is_reload(had_terminal, has_terminal), expected, "{had_terminal} {has_terminal}");
        }
    }

    #[test]
    fn every_signal_whose_default_ends_a_process_has_a_handler_but_faults() {
        let handled: Vec<i32> = handled().map(|(number, _)| number).collect();
        // From signal(7): what the default leaves alone, stops or continues; what reports a fault; PIPE, which the runtime of
        // Rust ignores; KILL and STOP; and 32 to 33, and up to 34 in musl, which the C library uses.
        let left = ["CHLD", "URG", "WINCH", "CONT", "TSTP", "TTIN", "TTOU", "PIPE", "KILL", "STOP"];
        let faults = ["SEGV", "BUS", "ILL", "FPE", "SYS", "ABRT"];
        for number in (1..32).chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
            let name = Signal::from_number(number).expect("in range").to_string();
            let is_left = left.contains(&&*name) || faults.contains(&&*name);
            assert_eq!(handled.contains(&number), !is_left, "{name}");
        }
        assert_eq!(Signal::from_number(HALT).expect("in range").to_string(), "RTMIN+3");
    }
}
