//! The component trait, and the ports through which a component sees the bus.

use std::future::Future;

use llama_warden_bus::{Clock, CommandSender, CommandSetId, Inbox, Publisher};
use llama_warden_events::CommandSet;
use tokio_util::sync::CancellationToken;

/// A part of the daemon that reacts to events, performs the commands that it owns, and publishes what came of it.
pub trait Component: Send + 'static {
    /// Its name, in logs and in `ComponentFailed`. No two components of a daemon share one.
    const NAME: &'static str;

    /// The command sets that it sends, so that a missing owner is an error at start.
    const SENDS: &'static [CommandSetId] = &[];

    /// The commands that it owns; [`NoCommand`](llama_warden_events::NoCommand) for none.
    type Command: CommandSet;

    /// Why it can fail.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Runs until `ports.cancel` is cancelled. If it ends earlier, the daemon publishes `ComponentFailed` and shuts down; so it does
    /// with a component that publishes events of its own without end, which is dropped. If it fails after that, the daemon ends all
    /// the same, with the failure in its log and with exit code 1.
    ///
    /// All components share one thread, signals to the daemon included: work that blocks goes through `blocking`, or everything
    /// stands still until it is done, and only SIGKILL ends the daemon.
    fn run(self, ports: Ports<Self::Command>) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// The lanes of the bus, as one component sees them.
#[derive(Debug)]
pub struct Ports<C: CommandSet> {
    /// Where it publishes events.
    pub events: Publisher,
    /// Where it sends commands.
    pub commands: CommandSender,
    /// The events, from a snapshot on, and the commands that it owns, each behind the events that its sender had seen.
    pub inbox: Inbox<C>,
    /// The time base.
    pub clock: Clock,
    /// Cancelled when it has to end.
    pub cancel: CancellationToken,
}
