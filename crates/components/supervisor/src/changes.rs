//! ChangeQueue of profile and configuration, on their way from a wish to what the configuration says.
//!
//! Resolving reads files, perhaps of a large and cold folder, so it runs beside the loop, one change after the other: each
//! is resolved on top of the one before. A reload that waits is joined by the next one, since both read the same files; one
//! under way is not, since it may have read them already. A shutdown waits for none.

use std::collections::VecDeque;

use llama_warden_bus::ReceivedCommand;
use llama_warden_events::{RefusalReason, Refused, SuperviseCommand};
use llama_warden_support::{BlockingError, blocking};
use tokio::task::JoinSet;

use crate::switch::{Change, FleetSource, Resolved};

/// How many changes wait at most; the next one is refused.
const CAPACITY: usize = 32;

/// Wishes of one resolution, in their order, and what came of it.
pub(crate) type ResolvedChange = (Vec<ReceivedCommand<SuperviseCommand>>, Result<Resolved, Refused>);

/// ChangeQueue that are resolved or wait to be.
pub(crate) struct ChangeQueue {
    source: FleetSource,
    waiting: VecDeque<ReceivedCommand<SuperviseCommand>>,
    /// Those that the resolution under way is for.
    current: Vec<ReceivedCommand<SuperviseCommand>>,
    resolution: JoinSet<Result<Result<Resolved, Refused>, BlockingError>>,
}

impl ChangeQueue {
    pub(crate) fn new(source: FleetSource) -> Self {
        Self { source, waiting: VecDeque::new(), current: Vec::new(), resolution: JoinSet::new() }
    }

    /// Takes a wish up, or gives it back where it is no change. Begins at once if nothing is under way.
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

    /// The next resolution that ends; for ever where none is under way.
    ///
    /// # Errors
    /// If it panicked.
    pub(crate) async fn next(&mut self) -> Result<ResolvedChange, BlockingError> {
        match self.resolution.join_next().await {
            Some(resolved) => Ok((std::mem::take(&mut self.current), resolved.unwrap_or(Err(BlockingError))?)),
            None => std::future::pending().await,
        }
    }

    /// Begins the next resolution, once what came of the one before is in force.
    pub(crate) fn start_next(&mut self) {
        if !self.resolution.is_empty() {
            return;
        }
        let Some(first) = self.waiting.pop_front() else { return };
        let Some(change) = change(&first.command) else { return };
        self.current.push(first);
        while change == Change::Reload
            && let Some(next) =
                self.waiting.pop_front_if(|next| matches!(next.command, SuperviseCommand::Reload { .. }))
        {
            self.current.push(next);
        }
        let source = self.source.clone();
        self.resolution.spawn(blocking(move || source(&change)));
    }

    /// Gives every wish back. A resolution under way goes on, and nobody hears of it.
    pub(crate) fn cancel(&mut self) -> impl Iterator<Item = ReceivedCommand<SuperviseCommand>> {
        self.resolution.detach_all();
        std::mem::take(&mut self.current).into_iter().chain(std::mem::take(&mut self.waiting))
    }
}

/// What a command asks of the configuration.
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
