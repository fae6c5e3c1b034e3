//! Publishing: an event before it has a number, and the inlet to the sequencer.

use llama_warden_events::{Event, Incarnation, Seq, ServerId};
use tokio::sync::{mpsc, oneshot};

/// An event that has no number yet.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDraft {
    /// The server that it is about.
    pub server: Option<ServerId>,
    /// The launch of that server.
    pub incarnation: Option<Incarnation>,
    /// The event that led here.
    pub cause: Option<Seq>,
    /// What happened.
    pub event: Event,
}

impl EventDraft {
    /// An event about the daemon.
    pub const fn daemon(event: Event) -> Self {
        Self { server: None, incarnation: None, cause: None, event }
    }

    /// An event about a server, whatever its launch.
    pub const fn server(server: ServerId, event: Event) -> Self {
        Self { server: Some(server), incarnation: None, cause: None, event }
    }

    /// An event about one launch of a server.
    pub const fn incarnation(server: ServerId, incarnation: Incarnation, event: Event) -> Self {
        Self { server: Some(server), incarnation: Some(incarnation), cause: None, event }
    }

    /// Names the event that led here.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Option<Seq>>) -> Self {
        self.cause = cause.into();
        self
    }
}

/// The sequencer has ended; no event is taken any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bus is closed")]
pub struct BusClosed;

/// The way into the line of events. Cheap to clone.
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

    /// Hands an event over. Waits while the inlet is full, which the sequencer empties without ever waiting itself.
    pub async fn publish(&self, draft: EventDraft) -> Result<(), BusClosed> {
        self.inlet.send(QueuedDraft { draft, acknowledge: None }).await.map_err(|_| BusClosed)
    }

    /// Hands an event over and returns its number once the snapshot contains it and everybody can see it.
    pub async fn publish_acked(&self, draft: EventDraft) -> Result<Seq, BusClosed> {
        let (acknowledge, acknowledged) = oneshot::channel();
        self.inlet.send(QueuedDraft { draft, acknowledge: Some(acknowledge) }).await.map_err(|_| BusClosed)?;
        acknowledged.await.map_err(|_| BusClosed)
    }
}
