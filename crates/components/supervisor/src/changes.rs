//! The queue of profile and configuration changes that wait to be resolved.
//!
//! Resolving reads files, perhaps of a large and cold folder, so that it runs off the event loop.
//!
//! Invariants:
//!
//! * One change is resolved at a time, on top of the configuration that the one before left.
//! * Reloads that wait next to each other are resolved together, since they read the same files. None joins a reload under
//!   way, which may have read the files before they changed.
//! * A shutdown cancels all of them and waits for none.

use std::collections::VecDeque;

use llama_warden_bus::ReceivedCommand;
use llama_warden_events::{RefusalReason, Refused, SuperviseCommand};
use llama_warden_support::{BlockingError, blocking};
use tokio::task::JoinSet;

use crate::switch::{Change, FleetSource, Resolved};

/// How many changes may wait. When as many wait, the next one is refused with `queue-full`.
const CAPACITY: usize = 32;

/// The commands that one resolution answers, in their order, and its result.
pub(crate) type ResolvedChange = (Vec<ReceivedCommand<SuperviseCommand>>, Result<Resolved, Refused>);

/// Changes that wait or are being resolved.
pub(crate) struct ChangeQueue {
    source: FleetSource,
    waiting: VecDeque<ReceivedCommand<SuperviseCommand>>,
    /// The commands that the resolution under way answers.
    current: Vec<ReceivedCommand<SuperviseCommand>>,
    resolution: JoinSet<Result<Result<Resolved, Refused>, BlockingError>>,
}

impl ChangeQueue {
    pub(crate) fn new(source: FleetSource) -> Self {
        Self { source, waiting: VecDeque::new(), current: Vec::new(), resolution: JoinSet::new() }
    }

    /// Queues a change, and begins it if none is under way. Returns a command that is not a change.
    pub(crate) fn push(
        &mut self,
        request: ReceivedCommand<SuperviseCommand>,
    ) -> Option<ReceivedCommand<SuperviseCommand>> {
        if change(&request.command).is_none() {
            return Some(request);
        }
        if self.waiting.len() >= CAPACITY {
            request.refuse(Refused::new(RefusalReason::QueueFull, "too many changes wait already; try again"));
            return None;
        }
        self.waiting.push_back(request);
        self.start_next();
        None
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
    /// is a difference to that.
    pub(crate) fn start_next(&mut self) {
        if !self.resolution.is_empty() {
            return;
        }
        let Some(first) = self.waiting.pop_front() else { return };
        let Some(change) = change(&first.command) else { return };
        self.current.push(first);
        // Only those at the front: a reload behind a change of profile must see that profile.
        let is_reload = |next: &mut ReceivedCommand<_>| matches!(next.command, SuperviseCommand::Reload { .. });
        while change == Change::Reload
            && let Some(next) = self.waiting.pop_front_if(is_reload)
        {
            self.current.push(next);
        }
        let source = self.source.clone();
        self.resolution.spawn(blocking(move || source(&change)));
    }

    /// Returns every command that is not answered. A resolution under way runs on in its thread, which cannot be
    /// interrupted, and its result is dropped.
    pub(crate) fn cancel(&mut self) -> impl Iterator<Item = ReceivedCommand<SuperviseCommand>> {
        self.resolution.detach_all();
        std::mem::take(&mut self.current).into_iter().chain(std::mem::take(&mut self.waiting))
    }
}

/// The change that a command asks for; `None` for a command about servers.
fn change(command: &SuperviseCommand) -> Option<Change> {
    match command {
        SuperviseCommand::ActivateProfile { profile, dry_run: true } => Some(Change::Preview(profile.clone())),
        SuperviseCommand::ActivateProfile { profile, dry_run: false } => Some(Change::Profile(profile.clone())),
        SuperviseCommand::Reload { .. } => Some(Change::Reload),
        SuperviseCommand::StartServer { .. }
        | SuperviseCommand::StopServer { .. }
        | SuperviseCommand::RestartServer { .. }
        | SuperviseCommand::ShutDown { .. } => None,
    }
}
