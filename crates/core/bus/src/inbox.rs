//! Events and commands of one component, in one order.
//!
//! Events and commands travel in lanes of their own, so a command can arrive before an event that its sender had already seen
//! and acted upon: the supervisor sees `ServerSpawned` and asks for a stop of a launch that the terminator has not heard of. An
//! [`Inbox`] restores the order: it yields a command only behind every event that was visible when the command was sent.

use std::sync::Arc;

use llama_warden_events::CommandSet;
use llama_warden_state::Snapshot;

use crate::{BusClosed, CommandReceiver, Delivery, ReceivedCommand, Subscription};

/// What an inbox yields.
#[derive(Debug)]
pub enum Incoming<C> {
    /// The next event, or a gap.
    Delivery(Delivery),
    /// A command; every event that its sender could have seen was yielded before.
    Command(ReceivedCommand<C>),
}

/// The events and the commands of one component.
#[derive(Debug)]
pub struct Inbox<C> {
    subscription: Subscription,
    commands: CommandReceiver<C>,
    /// A command that waits for the events before it.
    held: Option<ReceivedCommand<C>>,
}

impl<C: CommandSet> Inbox<C> {
    /// Joins the two lanes of one component.
    pub const fn new(subscription: Subscription, commands: CommandReceiver<C>) -> Self {
        Self { subscription, commands, held: None }
    }

    /// What was known when the subscription began.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.subscription.snapshot()
    }

    /// The next event, gap or command. Safe to cancel.
    ///
    /// # Errors
    /// If the bus is closed and everything was read.
    pub async fn next(&mut self) -> Result<Incoming<C>, BusClosed> {
        loop {
            if let Some(held) = self.held.take_if(|held| self.subscription.position() > held.after) {
                return Ok(Incoming::Command(held));
            }
            if self.held.is_some() {
                // The events up to `after` were visible when the command was sent, so this does not wait.
                return self.subscription.next().await.map(Incoming::Delivery).ok_or(BusClosed);
            }
            tokio::select! {
                command = self.commands.recv() => self.held = Some(command),
                delivery = self.subscription.next() => return delivery.map(Incoming::Delivery).ok_or(BusClosed),
            }
        }
    }

    /// The next event or gap if there is one already; commands stay where they are.
    pub fn try_next_event(&mut self) -> Option<Delivery> {
        self.subscription.try_next()
    }

    /// The two lanes, without an order between them, for a component that reads each in its own way.
    pub fn split(self) -> (Subscription, CommandReceiver<C>) {
        (self.subscription, self.commands)
    }
}
