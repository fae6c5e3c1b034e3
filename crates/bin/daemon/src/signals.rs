//! Handles signals to the daemon: the first shuts down with grace, the second kills the servers, the third leaves at once.
//!
//! | signal | first | second | third |
//! |---|---|---|---|
//! | TERM, INT | stop every server with its grace | KILL what is left now | leave with 128 + its number |
//! | QUIT | KILL what is left now | leave with 128 + its number | |
//! | HUP | reload the configuration; if the terminal hung up, as TERM | | |

use std::io::IsTerminal;

use llama_warden_bus::CommandSender;
use llama_warden_events::{Signal, SuperviseCommand};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use crate::exit::CommandFailure;

/// The installed handlers.
#[derive(Debug)]
pub struct Signals {
    terminate: SignalStream,
    interrupt: SignalStream,
    quit: SignalStream,
    hang_up: SignalStream,
    started_on: Attachment,
}

/// Whether the daemon has a terminal. When a terminal is closed, the kernel sends HUP to the processes on it, and `isatty(3)`
/// on their descriptors fails with EIO from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attachment {
    Terminal,
    Detached,
}

impl Attachment {
    fn now() -> Self {
        let on_terminal =
            std::io::stdin().is_terminal() || std::io::stdout().is_terminal() || std::io::stderr().is_terminal();
        if on_terminal { Self::Terminal } else { Self::Detached }
    }
}

/// The command that a signal leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SignalRequest {
    Reload,
    ShutDown,
}

impl SignalRequest {
    fn of(signal: Signal, started_on: Attachment, now: Attachment) -> Self {
        let hung_up = started_on == Attachment::Terminal && now == Attachment::Detached;
        if signal == Signal::HUP && !hung_up { Self::Reload } else { Self::ShutDown }
    }
}

impl Signals {
    /// Installs the handlers. From now on none of these signals ends the process by itself.
    ///
    /// # Errors
    /// The kernel refuses a handler.
    pub fn install() -> Result<Self, CommandFailure> {
        let handler = |kind| {
            signal(kind).map_err(|error| CommandFailure::failed(format!("cannot install signal handlers: {error}")))
        };
        Ok(Self {
            terminate: handler(SignalKind::terminate())?,
            interrupt: handler(SignalKind::interrupt())?,
            quit: handler(SignalKind::quit())?,
            hang_up: handler(SignalKind::hangup())?,
            started_on: Attachment::now(),
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.terminate.recv() => Signal::TERM,
            Some(()) = self.interrupt.recv() => Signal::INT,
            Some(()) = self.quit.recv() => Signal::QUIT,
            Some(()) = self.hang_up.recv() => Signal::HUP,
            // The handlers live as long as the process.
            else => std::future::pending().await,
        }
    }

    /// Turns each signal into a command. Resolves with the signal after which the daemon leaves at once. `forced` is set to
    /// the signal that killed the servers: it decides the exit code.
    pub async fn run(mut self, commands: CommandSender, forced: tokio::sync::watch::Sender<Option<Signal>>) -> Signal {
        let mut urgency = 0;
        loop {
            let received = self.next().await;
            let trigger = format!("signal {received}");
            if SignalRequest::of(received, self.started_on, Attachment::now()) == SignalRequest::Reload {
                // The answer is not awaited: events report the outcome, and the next signal may ask for a shutdown.
                drop(commands.post(SuperviseCommand::Reload { trigger }));
                continue;
            }
            // Signals add up whatever their kind; QUIT skips the graceful step.
            urgency = if received == Signal::QUIT { (urgency + 1).max(2) } else { urgency + 1 };
            if urgency > 2 {
                return received;
            }
            let force = urgency == 2;
            if force {
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
        use Attachment::{Detached, Terminal};
        for (signal, started_on, now, expected) in [
            (Signal::HUP, Detached, Detached, SignalRequest::Reload),
            (Signal::HUP, Terminal, Terminal, SignalRequest::Reload),
            (Signal::HUP, Terminal, Detached, SignalRequest::ShutDown),
            (Signal::TERM, Detached, Detached, SignalRequest::ShutDown),
            (Signal::INT, Terminal, Terminal, SignalRequest::ShutDown),
        ] {
            assert_eq!(SignalRequest::of(signal, started_on, now), expected, "{signal} {started_on:?} {now:?}");
        }
    }
}
