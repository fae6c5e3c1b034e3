//! Publishing: a fact before it has a number, and the inlet to the sequencer.

use llama_warden_events::{Event, Incarnation, Seq, ServerId};
use tokio::sync::{mpsc, oneshot};

/// A fact that has no number yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Fact {
    /// The server that it is about.
    pub server: Option<ServerId>,
    /// The launch of that server.
    pub incarnation: Option<Incarnation>,
    /// The fact that led here.
    pub cause: Option<Seq>,
    /// What happened.
    pub event: Event,
}

impl Fact {
    /// A fact about the daemon.
    pub const fn daemon(event: Event) -> Self {
        Self { server: None, incarnation: None, cause: None, event }
    }

    /// A fact about a server, whatever its launch.
    pub const fn server(server: ServerId, event: Event) -> Self {
        Self { server: Some(server), incarnation: None, cause: None, event }
    }

    /// A fact about one launch of a server.
    pub const fn incarnation(server: ServerId, incarnation: Incarnation, event: Event) -> Self {
        Self { server: Some(server), incarnation: Some(incarnation), cause: None, event }
    }

    /// Names the fact that led here.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Option<Seq>>) -> Self {
        self.cause = cause.into();
        self
    }
}

/// The sequencer has ended; no fact is taken any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bus is closed")]
pub struct BusClosed;

/// The way into the line of facts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Publisher {
    inlet: mpsc::Sender<Draft>,
}

/// A fact on its way to the sequencer.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) fact: Fact,
    pub(crate) acknowledge: Option<oneshot::Sender<Seq>>,
}

impl Publisher {
    pub(crate) const fn new(inlet: mpsc::Sender<Draft>) -> Self {
        Self { inlet }
    }

    /// Hands a fact over. Waits while the inlet is full, which the sequencer empties without ever waiting itself.
    pub async fn publish(&self, fact: Fact) -> Result<(), BusClosed> {
        self.inlet.send(Draft { fact, acknowledge: None }).await.map_err(|_| BusClosed)
    }

    /// Hands a fact over and returns its number once the snapshot contains it and everybody can see it.
    pub async fn publish_acked(&self, fact: Fact) -> Result<Seq, BusClosed> {
        let (acknowledge, acknowledged) = oneshot::channel();
        self.inlet.send(Draft { fact, acknowledge: Some(acknowledge) }).await.map_err(|_| BusClosed)?;
        acknowledged.await.map_err(|_| BusClosed)
    }
}
