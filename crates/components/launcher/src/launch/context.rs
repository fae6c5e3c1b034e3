//! One launch and what it works with.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::{BusClosed, CommandSender, EventDraft, OutputLane, Publisher};
use llama_warden_config::ServerSpec;
use llama_warden_events::{BootId, Event, Incarnation, ListenerOwner, OptionNote, ProcessEnd, Seq, ServerId};
use llama_warden_support::{Interner, blocking};

use super::dialect_reloader::DialectReloader;
use super::identify::BinaryCache;
use super::orders::LaunchInbox;
use crate::process::launch_tag::LaunchTag;
use crate::process::listener;
use crate::process::lock::InstanceLock;
use crate::process::server_address;
use crate::process::spawn_request::ShimProgram;
use crate::process::spawner::Spawner;
use crate::process::sweep::ProcessSelector;

/// Time to kill what outlived the server.
pub(crate) const SWEEP_TIMEOUT: Duration = Duration::from_secs(2);

/// What all launches share.
#[derive(Debug)]
pub(crate) struct LaunchResources {
    pub(crate) boot: BootId,
    pub(crate) lane: OutputLane,
    pub(crate) commands: CommandSender,
    pub(crate) spawner: Spawner,
    pub(crate) shim: ShimProgram,
    pub(crate) binaries: BinaryCache,
    pub(crate) dialects: DialectReloader,
    pub(crate) notes: Interner<OptionNote>,
    /// What children may inherit from.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Where the locks of servers are; `None` has none.
    pub(crate) state_dir: Option<PathBuf>,
}

impl LaunchResources {
    /// Who listens where `server` should.
    pub(crate) async fn who_listens(&self, server: Arc<ServerSpec>, leader: u32, tag: LaunchTag) -> ListenerOwner {
        let looked = blocking(move || who_listens(&server, leader, &tag)).await;
        looked.unwrap_or_else(|error| ListenerOwner::Unreadable { detail: format!("the look has failed: {error}") })
    }
}

/// Publishes events about one launch.
#[derive(Debug, Clone)]
pub(crate) struct LaunchReporter {
    pub(crate) events: Publisher,
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) cause: Option<Seq>,
}

impl LaunchReporter {
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
    pub(crate) reporter: LaunchReporter,
    pub(crate) resources: Arc<LaunchResources>,
    pub(crate) inbox: LaunchInbox,
}

/// How a launch ended: its last event is published when the next launch may begin.
#[derive(Debug)]
pub(crate) struct EndedLaunch {
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) last: EventDraft,
}

impl Launch {
    /// The end of the launch, with its last event.
    pub(crate) fn over(self, last: Event) -> EndedLaunch {
        let last = self.reporter.draft(last);
        EndedLaunch { server: self.reporter.server, incarnation: self.reporter.incarnation, last }
    }

    /// Nobody hears what happens any more; the process, if there was one, is killed when it is dropped.
    pub(crate) fn end_unheard(self) -> EndedLaunch {
        self.over(Event::ServerExited { end: ProcessEnd::Unknown, swept: 0 })
    }

    /// By what the launch's processes are recognised.
    pub(crate) fn tag(&self) -> LaunchTag {
        LaunchTag::new(&self.resources.boot, &self.reporter.server, self.reporter.incarnation)
    }

    pub(crate) fn selector(&self) -> ProcessSelector {
        let state_dir = self.resources.state_dir.as_deref();
        let lock = state_dir.map(|state_dir| InstanceLock::that_is_made(state_dir, &self.reporter.server));
        ProcessSelector { tag: Some(self.tag()), lock, group: None }
    }
}

fn who_listens(server: &ServerSpec, leader: u32, tag: &LaunchTag) -> ListenerOwner {
    match server_address::resolve(&server.host, server.port) {
        Ok(entries) => {
            let addresses: Vec<_> = entries.into_iter().flat_map(|entry| entry.addresses).collect();
            listener::identify(&addresses, leader, tag)
        }
        Err((host, error)) => ListenerOwner::Unreadable { detail: format!("cannot resolve `{host}`: {error}") },
    }
}
