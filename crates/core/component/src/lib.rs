//! The base of every component: the trait, its ports to the bus, its loop, the launches it follows, and the host.
//!
//! A [`Component`] gets [`Ports`] to the bus and runs until it is cancelled. One with state implements [`Worker`] and calls
//! [`Ports::drive`]; one that follows servers keeps a [`LaunchTracker`], which makes up for gaps. A [`Host`] adds components, checks
//! that names and command owners fit together, and turns the failure of one component into an orderly end of all.
//!
//! ```
//! use llama_warden_bus::{BusClosed, Delivery, EventDraft, Publisher};
//! use llama_warden_component::{Component, Ports, Worker};
//! use llama_warden_events::{Event, NoCommand, Uptime};
//!
//! /// Publishes an event of its own for each server that fails.
//! struct Pager;
//!
//! struct PagerWorker {
//!     events: Publisher,
//! }
//!
//! #[derive(Debug, thiserror::Error)]
//! #[error("cannot page: {0}")]
//! struct PagerError(#[from] BusClosed);
//!
//! impl Component for Pager {
//!     const NAME: &'static str = "pager";
//!     type Command = NoCommand;
//!     type Error = PagerError;
//!
//!     async fn run(self, ports: Ports<NoCommand>) -> Result<(), PagerError> {
//!         let worker = PagerWorker { events: ports.events.clone() };
//!         ports.drive(worker).await
//!     }
//! }
//!
//! impl Worker for PagerWorker {
//!     type Command = NoCommand;
//!     type Error = PagerError;
//!     type Input = ();
//!
//!     async fn on_event(&mut self, delivery: Delivery, _now: Uptime) -> Result<(), PagerError> {
//!         let Delivery::Event(envelope) = delivery else { return Ok(()) };
//!         if let Event::ServerFailed { reason, .. } = &envelope.event {
//!             let event = Event::extension("pager", "PageSent", reason);
//!             self.events.publish(EventDraft::daemon(event).because(envelope.seq)).await?;
//!         }
//!         Ok(())
//!     }
//! }
//! ```

mod component;
mod context;
mod host;
mod tracker;
mod worker;

pub use component::{Component, Ports};
pub use context::{Context, ContextParts};
pub use host::{Built, CompositionError, Host, HostError, HostSettings, RunningHost};
pub use tracker::{LaunchChange, LaunchReadiness, LaunchTracker, LaunchedProcess, TrackedLaunch, Transition};
pub use worker::{Worker, next_task};

/// Ends a component: a field of its [`Ports`].
pub use tokio_util::sync::CancellationToken;
