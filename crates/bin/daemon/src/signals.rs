//! Signals to the daemon: the first asks, the second insists, the third leaves.
//!
//! | signal | first | second | third |
//! |---|---|---|---|
//! | TERM, INT | stop every server in peace | KILL what is left now | leave with 128 + its number |
//! | QUIT | KILL what is left now | leave | |
//! | HUP | read the configuration again; if the terminal hung up, as TERM | | |

use std::io::IsTerminal;

use llama_warden_bus::CommandSender;
use llama_warden_events::{Signal, SuperviseCommand};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};

use crate::exit::{Exit, Failure};

/// The signals that the daemon hears.
#[derive(Debug)]
pub struct Signals {
    terminate: SignalStream,
    interrupt: SignalStream,
    quit: SignalStream,
    hang_up: SignalStream,
    started_on: Place,
}

/// Where a daemon runs. The kernel sends HUP to those on a terminal that is gone; on it they are no more
/// (`isatty(3)` then fails with EIO).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Terminal,
    Elsewhere,
}

impl Place {
    fn now() -> Self {
        let on_terminal =
            std::io::stdin().is_terminal() || std::io::stdout().is_terminal() || std::io::stderr().is_terminal();
        if on_terminal { Self::Terminal } else { Self::Elsewhere }
    }
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Reload,
    End,
}

impl Wish {
    fn of(signal: Signal, started_on: Place, now: Place) -> Self {
        let hung_up = started_on == Place::Terminal && now == Place::Elsewhere;
        if signal == Signal::HUP && !hung_up { Self::Reload } else { Self::End }
    }
}

impl Signals {
    /// Begins to hear; from now on no signal ends the process by itself.
    ///
    /// # Errors
    /// Where the kernel refuses a handler.
    pub fn hear() -> Result<Self, Failure> {
        let hear =
            |kind| signal(kind).map_err(|error| Failure::new(Exit::Failed, format!("cannot hear signals: {error}")));
        Ok(Self {
            terminate: hear(SignalKind::terminate())?,
            interrupt: hear(SignalKind::interrupt())?,
            quit: hear(SignalKind::quit())?,
            hang_up: hear(SignalKind::hangup())?,
            started_on: Place::now(),
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

    /// Turns signals into wishes. Resolves with the signal after which the daemon leaves at once.
    pub async fn rule(
        mut self,
        commands: CommandSender,
        insisted: tokio::sync::watch::Sender<Option<Signal>>,
    ) -> Signal {
        let mut urgency = 0;
        loop {
            let received = self.next().await;
            let trigger = format!("signal {received}");
            if Wish::of(received, self.started_on, Place::now()) == Wish::Reload {
                // Nobody waits for the answer: what came of it is told by events, and the next signal may be an end.
                drop(commands.post(SuperviseCommand::Reload { trigger }));
                continue;
            }
            urgency = if received == Signal::QUIT { (urgency + 1).max(2) } else { urgency + 1 };
            if urgency > 2 {
                return received;
            }
            let force = urgency == 2;
            if force {
                insisted.send_replace(Some(received));
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
        use Place::{Elsewhere, Terminal};
        for (signal, started_on, now, expected) in [
            (Signal::HUP, Elsewhere, Elsewhere, Wish::Reload),
            (Signal::HUP, Terminal, Terminal, Wish::Reload),
            (Signal::HUP, Terminal, Elsewhere, Wish::End),
            (Signal::TERM, Elsewhere, Elsewhere, Wish::End),
            (Signal::INT, Terminal, Terminal, Wish::End),
        ] {
            assert_eq!(Wish::of(signal, started_on, now), expected, "{signal} {started_on:?} {now:?}");
        }
    }
}
