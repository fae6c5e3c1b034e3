//! Publishing: event drafts, and the inlet to the sequencer.

use llama_warden_events::{Event, Incarnation, Seq, ServerId};
use tokio::sync::{mpsc, oneshot};

/// An event before the sequencer has numbered it.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDraft {
    /// The server that it is about.
    pub server: Option<ServerId>,
    /// The launch of that server.
    pub incarnation: Option<Incarnation>,
    /// The event that led to it.
    pub cause: Option<Seq>,
    /// What happened.
    pub event: Event,
}

impl EventDraft {
    /// An event about the daemon.
    pub const fn daemon(event: Event) -> Self {
        Self { server: None, incarnation: None, cause: None, event }
    }

    /// An event about a server, independent of a launch.
    pub const fn server(server: ServerId, event: Event) -> Self {
        Self { server: Some(server), incarnation: None, cause: None, event }
    }

    /// An event about one launch of a server.
    pub const fn incarnation(server: ServerId, incarnation: Incarnation, event: Event) -> Self {
        Self { server: Some(server), incarnation: Some(incarnation), cause: None, event }
    }

    /// Sets the event that led to it.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Option<Seq>>) -> Self {
        self.cause = cause.into();
        self
    }
}

/// The sequencer has ended and accepts no more events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bus is closed")]
pub struct BusClosed;

/// Publishes events. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    inlet: mpsc::Sender<QueuedDraft>,
}

/// An event on its way to the sequencer.
#[derive(Debug)]
pub(crate) struct QueuedDraft {
    pub(crate) draft: EventDraft,
    pub(crate) acknowledge: Option<oneshot::Sender<Seq>>,
}

impl Publisher {
    pub(crate) const fn new(inlet: mpsc::Sender<QueuedDraft>) -> Self {
        Self { inlet }
    }

    /// Publishes an event. Waits while the inlet is full; the sequencer empties it without waiting for anybody. What comes after
    /// `DaemonStopped` is dropped.
    pub async fn publish(&self, draft: EventDraft) -> Result<(), BusClosed> {
        self.inlet.send(QueuedDraft { draft, acknowledge: None }).await.map_err(|_| BusClosed)
    }

    /// Publishes an event and returns its number once the snapshot contains it and every subscriber can read it. That of
    /// one which came after `DaemonStopped` is the number of that.
    pub async fn publish_acked(&self, draft: EventDraft) -> Result<Seq, BusClosed> {
        let (acknowledge, acknowledged) = oneshot::channel();
        self.inlet.send(QueuedDraft { draft, acknowledge: Some(acknowledge) }).await.map_err(|_| BusClosed)?;
        acknowledged.await.map_err(|_| BusClosed)
    }
}
