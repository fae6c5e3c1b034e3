//! The queue of profile and configuration changes that wait to be resolved.
//!
//! Resolving reads files, perhaps of a large and cold folder, so that it runs off the event loop.
//!
//! Invariants:
//!
//! * One change is resolved at a time, on top of the configuration that the one before left.
//! * Reloads that wait next to each other are resolved together, since they read the same files. None joins a reload under
//!   way, which may have read the files before they changed.
//! * A reload that finds a doubtful configuration looks a second time, [`SECOND_LOOK`] later: its writer may
//!   not have finished. It holds up no other change meanwhile, and the next reload that succeeds answers it.
//! * A shutdown cancels all of them and waits for none.

use std::collections::VecDeque;
use std::time::Duration;

use llama_warden_bus::ReceivedCommand;
use llama_warden_events::{RefusalReason, Refused, ServerId, SuperviseCommand, Uptime};
use llama_warden_support::{BlockingError, blocking};
use tokio::task::JoinSet;

use crate::switch::{Caution, Change, FleetActivity, FleetSource, Resolved};

/// How many changes may wait. When as many wait, the next one is refused with `queue-full`.
const CAPACITY: usize = 32;

/// Time from the first look at a doubtful configuration to the second.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// A change that waits for its turn, or for the result of its resolution.
pub(crate) struct QueuedChange {
    pub(crate) request: ReceivedCommand<SuperviseCommand>,
    look: Look,
}

/// How often a reload has read the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    First,
    Second,
}

/// The changes that one resolution answers, in their order, and its result. None for a change of a port, which nobody asked for.
pub(crate) type ResolvedChange = (Vec<QueuedChange>, Result<Resolved, Refused>);

/// Changes that wait or are being resolved.
pub(crate) struct ChangeQueue {
    source: FleetSource,
    waiting: VecDeque<QueuedChange>,
    /// Servers that need another port. They come first: each stands still meanwhile.
    ports: VecDeque<ServerId>,
    /// The changes that the resolution under way answers.
    current: Vec<QueuedChange>,
    /// Reloads that found a doubtful configuration, each with the time of its second look, in the order of these times.
    doubtful: VecDeque<(Uptime, QueuedChange)>,
    resolution: JoinSet<Result<Result<Resolved, Refused>, BlockingError>>,
}

impl ChangeQueue {
    pub(crate) fn new(source: FleetSource) -> Self {
        Self {
            source,
            waiting: VecDeque::new(),
            ports: VecDeque::new(),
            current: Vec::new(),
            doubtful: VecDeque::new(),
            resolution: JoinSet::new(),
        }
    }

    /// Queues a change. Returns a command that is not a change.
    pub(crate) fn push(
        &mut self,
        request: ReceivedCommand<SuperviseCommand>,
    ) -> Option<ReceivedCommand<SuperviseCommand>> {
        if !is_change(&request.command) {
            return Some(request);
        }
        if self.waiting.len() + self.doubtful.len() >= CAPACITY {
            request.refuse(Refused::new(RefusalReason::QueueFull, "too many changes wait already; try again"));
            return None;
        }
        self.waiting.push_back(QueuedChange { request, look: Look::First });
        None
    }

    /// Queues another port for a server.
    pub(crate) fn push_port(&mut self, server: ServerId) {
        if !self.ports.contains(&server) {
            self.ports.push_back(server);
        }
    }

    /// The result of the resolution under way. Waits for ever while there is none.
    ///
    /// # Errors
    /// If the resolution panicked.
    pub(crate) async fn next(&mut self) -> Result<ResolvedChange, BlockingError> {
        match self.resolution.join_next().await {
            Some(resolved) => Ok((std::mem::take(&mut self.current), resolved.unwrap_or(Err(BlockingError))?)),
            None => std::future::pending().await,
        }
    }

    /// Begins the next resolution, unless one is under way. Called once the result of the one before is applied: the next
    /// is a difference to that. `activity` is what a reload must not disturb without need.
    pub(crate) fn start_next(&mut self, activity: impl FnOnce() -> FleetActivity) {
        if !self.resolution.is_empty() {
            return;
        }
        if let Some(server) = self.ports.pop_front() {
            self.resolve(Change::Port(server));
            return;
        }
        let Some(first) = self.waiting.pop_front() else { return };
        let change = match &first.request.command {
            SuperviseCommand::ActivateProfile { profile, dry_run: true } => Change::Preview(profile.clone()),
            SuperviseCommand::ActivateProfile { profile, dry_run: false } => Change::Profile(profile.clone()),
            SuperviseCommand::ChangeBuild { server, change } => Change::Build(server.clone(), change.clone()),
            SuperviseCommand::Reload { force: true, .. } => Change::Reload(Caution::Forced),
            _ => Change::Reload(Caution::Guarded(activity())),
        };
        let forces = |change: &QueuedChange| match &change.request.command {
            SuperviseCommand::Reload { force, .. } => Some(*force),
            _ => None,
        };
        // Only those at the front: a reload behind a change of profile must see that profile.
        let kind = forces(&first);
        self.current.push(first);
        while kind.is_some()
            && let Some(next) = self.waiting.pop_front_if(|next| forces(next) == kind)
        {
            self.current.push(next);
        }
        self.resolve(change);
    }

    fn resolve(&mut self, change: Change) {
        let source = self.source.clone();
        self.resolution.spawn(blocking(move || source(&change)));
    }

    /// Keeps a reload that found a doubtful configuration for its second look. Returns it if this was the second.
    pub(crate) fn look_again(&mut self, change: QueuedChange, now: Uptime) -> Option<QueuedChange> {
        match change.look {
            Look::First => {
                let second = QueuedChange { look: Look::Second, ..change };
                self.doubtful.push_back((Uptime::new(now.as_duration() + SECOND_LOOK), second));
                None
            }
            Look::Second => Some(change),
        }
    }

    /// The reloads that wait for their second look. A reload that has just succeeded read what they asked for.
    pub(crate) fn take_doubtful(&mut self) -> impl Iterator<Item = QueuedChange> + use<> {
        std::mem::take(&mut self.doubtful).into_iter().map(|(_, change)| change)
    }

    /// When the next second look is due.
    pub(crate) fn next_look(&self) -> Option<Uptime> {
        self.doubtful.front().map(|(at, _)| *at)
    }

    /// Queues the reloads whose second look is due.
    pub(crate) fn on_deadline(&mut self, now: Uptime) {
        while let Some((_, change)) = self.doubtful.pop_front_if(|(at, _)| *at <= now) {
            self.waiting.push_back(change);
        }
    }

    /// Returns every command that is not answered. A resolution under way runs on in its thread, which cannot be
    /// interrupted, and its result is dropped.
    pub(crate) fn cancel(&mut self) -> impl Iterator<Item = ReceivedCommand<SuperviseCommand>> {
        self.resolution.detach_all();
        self.ports.clear();
        let current = std::mem::take(&mut self.current).into_iter();
        let doubtful = self.take_doubtful();
        current.chain(doubtful).chain(std::mem::take(&mut self.waiting)).map(|change| change.request)
    }
}

/// Whether a command is a change of profile or configuration, and not one about servers.
const fn is_change(command: &SuperviseCommand) -> bool {
    match command {
        SuperviseCommand::ActivateProfile { .. }
        | SuperviseCommand::ChangeBuild { .. }
        | SuperviseCommand::Reload { .. } => true,
        SuperviseCommand::StartServer { .. }
        | SuperviseCommand::StopServer { .. }
        | SuperviseCommand::RestartServer { .. }
        | SuperviseCommand::UnloadServer { .. }
        | SuperviseCommand::WantServer { .. }
        | SuperviseCommand::UnwantServer { .. }
        | SuperviseCommand::HandOver { .. }
        | SuperviseCommand::ShutDown { .. } => false,
    }
}
