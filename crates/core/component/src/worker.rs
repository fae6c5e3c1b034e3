//! The loop of a component with state: one `select!` for all of them.
//!
//! A component with state implements [`Worker`] and calls [`Ports::drive`]. The verbs are the same everywhere: `on_event` for
//! what happened, `on_command` for what is asked, `on_deadline` for what is due, `on_input` for what its own tasks bring. What is
//! hard to get right is decided here once: cancellation is noticed at every turn, a command comes
//! behind the events that led to it, a deadline that has passed needs no timer, and a cancelled wait loses nothing.

use std::future::{Future, pending, ready};

use llama_warden_bus::{BusClosed, Delivery, Inbox, Incoming, ReceivedCommand};
use llama_warden_events::{CommandSet, Uptime};
use llama_warden_state::Snapshot;
use tokio::task::{JoinError, JoinSet};

use crate::Ports;

/// What a component does when something wakes it.
///
/// No method waits for an answer of another component: a reply is a task, and its result comes as an input.
pub trait Worker: Send {
    /// The commands that it owns.
    type Command: CommandSet;

    /// Why it can fail.
    type Error: From<BusClosed> + Send;

    /// What wakes it beside the bus: results of its tasks, a changed configuration, a notice of the kernel.
    type Input: Send;

    /// The component starts. `snapshot` is what happened before its first event.
    fn on_start(&mut self, snapshot: &Snapshot, now: Uptime) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = (snapshot, now);
        ready(Ok(()))
    }

    /// An event, or a gap with the snapshot that contains what was missed.
    fn on_event(&mut self, delivery: Delivery, now: Uptime) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// A command; every event that its sender could have seen was delivered before.
    fn on_command(
        &mut self,
        command: ReceivedCommand<Self::Command>,
        now: Uptime,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send {
        // Only a component that owns no command leaves this out, and it gets none.
        drop((command, now));
        ready(Ok(()))
    }

    /// When `on_deadline` has something to do.
    fn next_deadline(&self) -> Option<Uptime> {
        None
    }

    /// The next deadline has come. What is due must be done or moved, or this is called again at once.
    fn on_deadline(&mut self, now: Uptime) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = now;
        ready(Ok(()))
    }

    /// The next input. Must be safe to cancel, and must not resolve while there is none.
    fn next_input(&mut self) -> impl Future<Output = Self::Input> + Send {
        pending()
    }

    /// An input.
    fn on_input(&mut self, input: Self::Input, now: Uptime) -> impl Future<Output = Result<(), Self::Error>> + Send {
        drop((input, now));
        ready(Ok(()))
    }

    /// The daemon ends. `inbox` still holds the events that nobody has read. The host waits a bounded time for this.
    fn on_cancel(&mut self, inbox: &mut Inbox<Self::Command>) -> impl Future<Output = Result<(), Self::Error>> + Send {
        let _ = inbox;
        ready(Ok(()))
    }
}

impl<C: CommandSet> Ports<C> {
    /// Runs `worker` until the component is cancelled.
    ///
    /// # Errors
    /// If the worker fails, or the bus is closed.
    pub async fn drive<W: Worker<Command = C>>(mut self, mut worker: W) -> Result<(), W::Error> {
        worker.on_start(&self.inbox.snapshot(), self.clock.now()).await?;
        loop {
            let deadline = worker.next_deadline();
            // Unbiased: no source of work may starve another one.
            tokio::select! {
                () = self.cancel.cancelled() => return worker.on_cancel(&mut self.inbox).await,
                incoming = self.inbox.next() => match incoming? {
                    Incoming::Delivery(delivery) => worker.on_event(delivery, self.clock.now()).await?,
                    Incoming::Command(command) => worker.on_command(command, self.clock.now()).await?,
                },
                input = worker.next_input() => worker.on_input(input, self.clock.now()).await?,
                () = self.clock.sleep_until(deadline) => worker.on_deadline(self.clock.now()).await?,
            }
        }
    }
}

/// The next task of a set that ends; pending while there is none, so that it can stand in [`Worker::next_input`].
pub async fn next_task<T: Send + 'static>(tasks: &mut JoinSet<T>) -> Result<T, JoinError> {
    match tasks.join_next().await {
        Some(ended) => ended,
        None => pending().await,
    }
}
