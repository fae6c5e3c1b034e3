//! One launch and what it works with.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::{BusClosed, CommandSender, EventDraft, OutputLane, Publisher};
use llama_warden_config::ServerSpec;
use llama_warden_events::{BootId, Event, Incarnation, ListenerOwner, ProcessEnd, Seq, ServerId};
use llama_warden_support::blocking;

use super::dialect_shelf::DialectShelf;
use super::identify::BinaryCache;
use super::mailbox::Mailbox;
use super::notes::NoteShelf;
use crate::process::address;
use crate::process::launch_tag::Marker;
use crate::process::listener;
use crate::process::lock::InstanceLock;
use crate::process::spawn_request::ShimProgram;
use crate::process::spawner::Spawner;
use crate::process::sweep::Traces;

/// Time to kill what outlived the server.
pub(crate) const SWEEP_TIMEOUT: Duration = Duration::from_secs(2);

/// What all launches share.
#[derive(Debug)]
pub(crate) struct Resources {
    pub(crate) boot: BootId,
    pub(crate) lane: OutputLane,
    pub(crate) commands: CommandSender,
    pub(crate) spawner: Spawner,
    pub(crate) shim: ShimProgram,
    pub(crate) binaries: BinaryCache,
    pub(crate) dialects: DialectShelf,
    pub(crate) notes: NoteShelf,
    /// What children may inherit from.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Where the locks of servers are; `None` has none.
    pub(crate) state_dir: Option<PathBuf>,
}

impl Resources {
    /// Who listens where `server` should.
    pub(crate) async fn who_listens(&self, server: Arc<ServerSpec>, leader: u32, marker: Marker) -> ListenerOwner {
        let looked = blocking(move || who_listens(&server, leader, &marker)).await;
        looked.unwrap_or_else(|error| ListenerOwner::Unreadable { detail: format!("the look has failed: {error}") })
    }
}

/// Publishes events about one launch.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    pub(crate) events: Publisher,
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) cause: Option<Seq>,
}

impl Reporter {
    pub(crate) fn draft(&self, event: Event) -> EventDraft {
        EventDraft::incarnation(self.server.clone(), self.incarnation, event).because(self.cause)
    }

    pub(crate) async fn publish(&self, event: Event) -> Result<(), BusClosed> {
        self.events.publish(self.draft(event)).await
    }

    /// Publishes what another event or command than the launch's own led to.
    pub(crate) async fn publish_because(&self, event: Event, cause: Option<Seq>) -> Result<(), BusClosed> {
        self.events.publish(self.draft(event).because(cause)).await
    }

    pub(crate) async fn publish_acked(&self, event: Event) -> Result<Seq, BusClosed> {
        self.events.publish_acked(self.draft(event)).await
    }
}

/// A launch and the orders that come for it.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) server: Arc<ServerSpec>,
    pub(crate) reporter: Reporter,
    pub(crate) resources: Arc<Resources>,
    pub(crate) mailbox: Mailbox,
}

/// How a launch ended: its last event is published when the next launch may begin.
#[derive(Debug)]
pub(crate) struct Over {
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) last: EventDraft,
}

impl Launch {
    /// The end of the launch, with its last event.
    pub(crate) fn over(self, last: Event) -> Over {
        let last = self.reporter.draft(last);
        Over { server: self.reporter.server, incarnation: self.reporter.incarnation, last }
    }

    /// Nobody hears what happens any more; the process, if there was one, is killed when it is dropped.
    pub(crate) fn unheard(self) -> Over {
        self.over(Event::ServerExited { end: ProcessEnd::Unknown, swept: 0 })
    }

    /// By what the launch's processes are recognised.
    pub(crate) fn marker(&self) -> Marker {
        Marker::new(&self.resources.boot, &self.reporter.server, self.reporter.incarnation)
    }

    pub(crate) fn traces(&self) -> Traces {
        let state_dir = self.resources.state_dir.as_deref();
        let lock = state_dir.map(|state_dir| InstanceLock::that_is_made(state_dir, &self.reporter.server));
        Traces { marker: Some(self.marker()), lock, group: None }
    }
}

fn who_listens(server: &ServerSpec, leader: u32, marker: &Marker) -> ListenerOwner {
    match address::resolve(&server.host, server.port) {
        Ok(entries) => {
            let addresses: Vec<_> = entries.into_iter().flat_map(|entry| entry.addresses).collect();
            listener::identify(&addresses, leader, marker)
        }
        Err((host, error)) => ListenerOwner::Unreadable { detail: format!("cannot resolve `{host}`: {error}") },
    }
}
