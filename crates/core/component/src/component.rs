//! What a component is, and what it is given.

use std::future::Future;

use llama_warden_events::CommandSet;
use tokio_util::sync::CancellationToken;

use llama_warden_bus::{Clock, CommandReceiver, CommandSender, Publisher, Subscription};

/// A part of the daemon that hears events, performs the commands that it owns, and publishes what came of it.
pub trait Component: Send + 'static {
    /// Its name, in logs and in `ComponentFailed`.
    const NAME: &'static str;

    /// The commands that it owns; [`NoCommand`](llama_warden_events::NoCommand) for none.
    type Command: CommandSet;

    /// Why it can end by itself.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Works until `ports.cancel` is cancelled. To end earlier is a failure of the daemon, which then shuts down.
    fn run(self, ports: Ports<Self::Command>) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// The lanes, as one component sees them.
#[derive(Debug)]
pub struct Ports<C: CommandSet> {
    /// Where it publishes events.
    pub events: Publisher,
    /// The events, from a snapshot on.
    pub subscription: Subscription,
    /// Where it sends commands.
    pub commands: CommandSender,
    /// The commands that it owns.
    pub inbox: CommandReceiver<C>,
    /// The time base.
    pub clock: Clock,
    /// When it has to end.
    pub cancel: CancellationToken,
}
