//! A launch, what all launches share, and how a launch ends.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::time::Duration;

use llama_warden_bus::{Bus, BusClosed, CommandSender, EventDraft, OutputLane, Publisher};
use llama_warden_config::ServerSpec;
use llama_warden_events::{BootId, Event, Incarnation, OptionNote, ProcessEnd, Seq, ServerId};
use llama_warden_support::Interner;

use super::dialect_reloader::DialectReloader;
use super::failure::LaunchFailure;
use super::held::HeldLaunches;
use super::identify::BinaryCache;
use super::orders::LaunchInbox;
use llama_warden_processes::launch_tag::LaunchTag;
use llama_warden_processes::lock::InstanceLock;
use llama_warden_processes::spawner::Spawner;
use llama_warden_processes::sweep::ProcessSelector;

/// Time to kill the processes that outlived the server.
pub(crate) const SWEEP_TIMEOUT: Duration = Duration::from_secs(2);

/// The parts that all launches share.
#[derive(Debug)]
pub(crate) struct LaunchResources {
    pub(crate) boot: BootId,
    pub(crate) lane: OutputLane,
    pub(crate) commands: CommandSender,
    pub(crate) spawner: Spawner,
    pub(crate) binaries: BinaryCache,
    pub(crate) dialects: DialectReloader,
    /// Nearly all notes are the same for every server of a build, and the snapshot holds those of each server.
    pub(crate) notes: Interner<OptionNote>,
    /// Servers that the kernel killed because memory ran out. Its counts are of a whole control group, so that a later kill
    /// of another server by a person is told from these.
    pub(crate) oom_deaths: AtomicU16,
    /// The daemon's own environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// The folder of the instance locks; without it servers have no locks.
    pub(crate) state_dir: Option<PathBuf>,
    /// Whether servers outlive the daemon however it ends.
    pub(crate) outlive: bool,
    /// Processes of an earlier daemon.
    pub(crate) held: HeldLaunches,
    /// Tells what every server does, also between events.
    pub(crate) bus: Bus,
}

/// Publishes the events of one launch.
#[derive(Debug, Clone)]
pub(crate) struct LaunchReporter {
    pub(crate) events: Publisher,
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    /// The event or command that led to the next event.
    pub(crate) cause: Option<Seq>,
}

impl LaunchReporter {
    pub(crate) fn draft(&self, event: Event) -> EventDraft {
        EventDraft::incarnation(self.server.clone(), self.incarnation, event).because(self.cause)
    }

    pub(crate) async fn publish(&self, event: Event) -> Result<(), BusClosed> {
        self.events.publish(self.draft(event)).await
    }

    /// Publishes an event that another event or command led to than the launch's own.
    pub(crate) async fn publish_because(&self, event: Event, cause: Option<Seq>) -> Result<(), BusClosed> {
        self.events.publish(self.draft(event).because(cause)).await
    }

    /// Publishes an event and waits until the snapshot has it. The event causes those that follow.
    pub(crate) async fn publish_acked(&mut self, event: Event) -> Result<(), BusClosed> {
        self.cause = Some(self.events.publish_acked(self.draft(event)).await?);
        Ok(())
    }
}

/// A launch with the orders that are queued for it.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) server: Arc<ServerSpec>,
    pub(crate) reporter: LaunchReporter,
    pub(crate) resources: Arc<LaunchResources>,
    pub(crate) inbox: LaunchInbox,
    /// The lock that its processes hold; `None` before the spawn, and where there is none.
    pub(crate) lock: Option<InstanceLock>,
    /// The tag of a process that was taken over.
    pub(crate) adopted_tag: Option<Box<LaunchTag>>,
}

/// A launch that has ended, with its last event, which the component publishes.
#[derive(Debug)]
pub(crate) struct EndedLaunch {
    pub(crate) server: ServerId,
    /// `None` if the process was left to the next daemon.
    pub(crate) last: Option<EventDraft>,
}

/// The end of a launch before its program runs.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// The launch failed or was cancelled; this is its last event.
    Ended(Event),
    /// The bus is closed.
    Unheard,
}

impl Launch {
    /// Ends the launch with its last event.
    pub(crate) fn end(self, last: Event) -> EndedLaunch {
        let last = Some(self.reporter.draft(last));
        EndedLaunch { server: self.reporter.server, last }
    }

    /// Ends the launch, whose process the next daemon goes on with.
    pub(crate) fn end_left(self) -> EndedLaunch {
        EndedLaunch { server: self.reporter.server, last: None }
    }

    /// Ends the launch because the bus is closed. Its process, if there is one, is killed when it is dropped.
    pub(crate) fn end_unheard(self) -> EndedLaunch {
        self.end(Event::ServerExited { end: ProcessEnd::Unknown, swept: 0 })
    }

    /// The tag of the launch's processes.
    pub(crate) fn tag(&self) -> LaunchTag {
        let own = || LaunchTag::new(&self.resources.boot, &self.reporter.server, self.reporter.incarnation);
        self.adopted_tag.as_deref().cloned().unwrap_or_else(own)
    }

    /// Selects the launch's processes by tag and lock.
    pub(crate) fn selector(&self) -> ProcessSelector {
        ProcessSelector { tag: Some(self.tag()), lock: self.lock.clone(), ..ProcessSelector::default() }
    }
}

impl<E: Into<LaunchFailure>> From<E> for NotStarted {
    fn from(failure: E) -> Self {
        let LaunchFailure { reason, detail, lines } = failure.into();
        Self::Ended(Event::ServerFailed { reason, detail, lines })
    }
}

impl From<BusClosed> for NotStarted {
    fn from(_: BusClosed) -> Self {
        Self::Unheard
    }
}
