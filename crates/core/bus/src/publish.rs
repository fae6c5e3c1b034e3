//! Publishing: event drafts, and the inlet to the sequencer.

use std::sync::Arc;

use llama_warden_events::{Event, Incarnation, Seq, ServerId};
use tokio::sync::{mpsc, oneshot};

use crate::extension_rate::ExtensionRate;

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

/// The sequencer has ended and accepts no more events; or it accepts none of this component's own, which published too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bus is closed")]
pub struct BusClosed;

/// Publishes events. Cheap to clone; the clones count as one where events are counted.
#[derive(Debug, Clone)]
pub struct Publisher(Arc<ComponentInlet>);

/// Where the events of one component go. Behind one pointer, since each launch keeps a publisher.
#[derive(Debug)]
struct ComponentInlet {
    inlet: mpsc::Sender<QueuedDraft>,
    extension_rate: ExtensionRate,
}

/// An event on its way to the sequencer.
#[derive(Debug)]
pub(crate) struct QueuedDraft {
    pub(crate) draft: EventDraft,
    pub(crate) acknowledge: Option<oneshot::Sender<Seq>>,
}

impl Publisher {
    pub(crate) fn new(inlet: mpsc::Sender<QueuedDraft>) -> Self {
        Self(Arc::new(ComponentInlet { inlet, extension_rate: ExtensionRate::new() }))
    }

    /// A publisher whose extension events are counted by themselves: that of another component.
    #[must_use]
    pub fn of_component(&self) -> Self {
        Self::new(self.0.inlet.clone())
    }

    /// Publishes an event. Waits while the inlet is full; the sequencer empties it without waiting for anybody. What comes after
    /// `DaemonStopped` is dropped.
    ///
    /// # Errors
    /// If the bus is closed, or, for an event of the component's own, if there were more than [`MAX_EXTENSION_EVENTS_PER_SECOND`].
    ///
    /// [`MAX_EXTENSION_EVENTS_PER_SECOND`]: crate::MAX_EXTENSION_EVENTS_PER_SECOND
    pub async fn publish(&self, draft: EventDraft) -> Result<(), BusClosed> {
        self.queue(draft, None).await
    }

    /// Publishes an event and returns its number once the snapshot contains it and every subscriber can read it. That of
    /// one which came after `DaemonStopped` is the number of that.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn publish_acked(&self, draft: EventDraft) -> Result<Seq, BusClosed> {
        let (acknowledge, acknowledged) = oneshot::channel();
        self.queue(draft, Some(acknowledge)).await?;
        acknowledged.await.map_err(|_| BusClosed)
    }

    /// Ends once more extension events were published than [`Self::publish`] takes.
    pub async fn flooded(&self) {
        self.0.extension_rate.exceeded().await;
    }

    /// Whether more extension events were published than [`Self::publish`] takes.
    pub fn has_flooded(&self) -> bool {
        self.0.extension_rate.is_exceeded()
    }

    async fn queue(&self, draft: EventDraft, acknowledge: Option<oneshot::Sender<Seq>>) -> Result<(), BusClosed> {
        if matches!(draft.event, Event::Extension(_)) && !self.0.extension_rate.admits() {
            return Err(BusClosed);
        }
        self.0.inlet.send(QueuedDraft { draft, acknowledge }).await.map_err(|_| BusClosed)
    }
}
