//! Signals to the daemon: the first asks, the second insists, the third leaves.
//!
//! | signal | first | second | third |
//! |---|---|---|---|
//! | TERM, INT | stop every server in peace | KILL what is left now | leave with 128 + its number |
//! | QUIT | KILL what is left now | leave | |
//! | HUP | stop in peace if the terminal is gone, else nothing | | |

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

    /// Turns signals into wishes to shut down. Resolves with the signal after which the daemon leaves at once.
    pub async fn rule(
        mut self,
        commands: CommandSender,
        insisted: tokio::sync::watch::Sender<Option<Signal>>,
    ) -> Signal {
        let mut urgency = 0;
        loop {
            let received = self.next().await;
            if received == Signal::HUP && std::io::stdin().is_terminal() {
                tracing::info!("HUP does nothing while the terminal is there");
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
            let trigger = format!("signal {received}");
            if let Err(refused) = commands.send(SuperviseCommand::ShutDown { trigger, force }).await {
                tracing::warn!(%refused, "cannot shut down in order");
                return received;
            }
        }
    }
}
