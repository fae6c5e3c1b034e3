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
    had_terminal: bool,
}

/// Whether the daemon has a terminal. When a terminal is closed, the kernel sends HUP to the processes on it, and `isatty(3)`
/// on their descriptors fails with EIO from then on.
fn has_terminal() -> bool {
    std::io::stdin().is_terminal() || std::io::stdout().is_terminal() || std::io::stderr().is_terminal()
}

/// Whether a signal asks for a reload: HUP does, unless it came because the terminal that the daemon was started on is gone.
fn asks_for_reload(signal: Signal, had_terminal: bool, has_terminal: bool) -> bool {
    signal == Signal::HUP && (has_terminal || !had_terminal)
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
            had_terminal: has_terminal(),
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
            if asks_for_reload(received, self.had_terminal, has_terminal()) {
                // The answer is not awaited: events report the outcome, and the next signal may ask for a shutdown.
                drop(commands.post(SuperviseCommand::Reload { trigger, force: false }));
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
        for (signal, had_terminal, has_terminal, expected) in [
            (Signal::HUP, false, false, true),
            (Signal::HUP, true, true, true),
            (Signal::HUP, true, false, false),
            (Signal::TERM, false, false, false),
            (Signal::INT, true, true, false),
        ] {
            let reloads = asks_for_reload(signal, had_terminal, has_terminal);
            assert_eq!(reloads, expected, "{signal} {had_terminal} {has_terminal}");
        }
    }
}
