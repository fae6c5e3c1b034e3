//! Desired and actual state of one server.
//!
//! Invariants:
//!
//! * The desired state is one number, `wanted`: the lowest launch that satisfies the last request. A start of a running
//!   server is satisfied by the launch under way, a restart only by a later one. Comparing `wanted` with the latest launch
//!   serialises starts, stops and restarts that cross, and the last request wins.
//! * Every method that takes an event expects one of the latest launch; the caller drops the others.
//! * Each command is answered exactly once: when its goal is reached, when the launch fails, or when a stop supersedes it.

use std::time::Duration;

use llama_warden_backoff::{Backoff, FaultyFile};
use llama_warden_events::{
    CommandOutcome, Event, FailureReason, Incarnation, LeftFailure, Refused, Seq, ServerId, StopReason, Uptime,
};
use llama_warden_room::ReservationStage;

use crate::action::{Actions, SupervisorAction};
use crate::policy::ServerPolicy;

mod commands;
mod demand;
mod events;
mod gate;

pub(crate) use demand::MemoryRetry;
pub(crate) use gate::{Drain, Gate, Hold};

/// Progress of the latest launch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum LaunchState {
    /// No process runs and no launch is under way.
    #[default]
    Down,
    /// `LaunchServer` was sent and `LaunchBegan` has not come yet. A stop would find no launch to stop.
    Requested,
    /// Begun and not ready yet.
    Starting,
    Ready,
    /// `TerminateServer` was sent.
    Stopping,
}

/// The condition that completes a pending command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// This launch or a later one is ready.
    Ready(Incarnation),
    /// No process of this launch or an earlier one is left.
    Down(Incarnation),
}

/// An accepted command that is not answered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PendingCommand {
    id: Seq,
    goal: Goal,
}

/// A request to stop the launch under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StopRequest {
    pub(crate) reason: StopReason,
    /// `None` is the configured grace.
    pub(crate) grace: Option<Duration>,
    pub(crate) asked_at: Uptime,
    /// The time for requests in flight.
    pub(crate) drain: Drain,
}

/// The origin of the next launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartReason {
    /// A person, a change of the configuration, or the start of the daemon.
    Requested,
    /// The restart policy, after a failure.
    RestartPolicy,
    /// Requests that wait for it.
    Demand,
}

/// Time and chance, which the restart policy takes as arguments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackoffInput {
    pub(crate) now: Uptime,
    /// A random number from 0 to 1.
    pub(crate) jitter: f64,
}

/// One launch. The next launch of the server replaces it as a whole, so that nothing of an old launch is left behind.
#[derive(Debug)]
struct LatestLaunch {
    /// 0 before the first launch.
    incarnation: Incarnation,
    state: LaunchState,
    /// Whether it got as far as a process.
    has_process: bool,
    /// Whether it got as far as ready.
    was_ready: bool,
    /// Whether `StopBegan` was published. Then `ServerStopped` follows and ends it.
    stop_began: bool,
    /// A stop that was requested before the launcher began the launch, or that waits for requests in flight.
    pending_stop: Option<StopRequest>,
    gate: Gate,
    hold: Option<Hold>,
    /// It had requests in flight when its gate was to be closed, and counts as busy until then.
    busy_until: Option<Uptime>,
    /// A memory warning to publish once the launcher has begun the launch.
    warning: Option<String>,
    failure: Option<(FailureReason, String)>,
    /// Whether the restart policy has decided about `failure`.
    policy_applied: bool,
    /// Why the policy gave up.
    abandoned: Option<String>,
}

impl LatestLaunch {
    const fn new(incarnation: Incarnation, state: LaunchState) -> Self {
        Self {
            incarnation,
            state,
            has_process: false,
            was_ready: false,
            stop_began: false,
            pending_stop: None,
            gate: Gate::Open,
            hold: None,
            busy_until: None,
            warning: None,
            failure: None,
            policy_applied: false,
            abandoned: None,
        }
    }
}

/// The answer to a launch for which there was no room.
#[derive(Debug)]
struct NoRoom {
    refused: Refused,
    at: Uptime,
    /// Requests wanted the launch, so that others were looked at which may be stopped for it. Others are stopped for requests alone.
    is_for_requests: bool,
}

/// One server: what it should do, and its latest launch.
#[derive(Debug)]
pub(crate) struct ServerState {
    server: ServerId,
    policy: ServerPolicy,
    backoff: Backoff,
    /// When the restart policy launches it again.
    restart_at: Option<Uptime>,
    /// `RestartScheduled` was published, and its launch was neither sent nor cancelled: it may be due and wait for its turn.
    restart_is_announced: bool,
    /// The lowest launch that satisfies the last request; `None` when the server should be down.
    wanted: Option<Incarnation>,
    start_reason: StartReason,
    /// A user stopped it, and has not requested it since.
    stopped_by_user: bool,
    /// A person or a request asked for it, and no stop came since.
    asked_for: bool,
    /// It is down until somebody wants it.
    is_unloaded: bool,
    is_in_use: bool,
    ready_at: Uptime,
    /// The later of the end of its latest request and of its becoming ready.
    idle_since: Uptime,
    failed_at: Option<Uptime>,
    /// The latest first.
    load_times: Vec<Duration>,
    memory_retry: MemoryRetry,
    /// Its latest launch was not sent: there was no room for it.
    no_room: Option<NoRoom>,
    /// Nothing but requests wants it to run.
    is_for_requests_alone: bool,
    pending_commands: Vec<PendingCommand>,
    launch: LatestLaunch,
}

impl ServerState {
    /// A server that was never launched. `failures` are those of an earlier run of the daemon.
    pub(crate) const fn new(server: ServerId, policy: ServerPolicy, failures: u32) -> Self {
        Self {
            server,
            policy,
            backoff: Backoff::resumed(failures),
            restart_at: None,
            restart_is_announced: false,
            wanted: None,
            start_reason: StartReason::Requested,
            stopped_by_user: false,
            asked_for: false,
            is_unloaded: false,
            is_in_use: false,
            ready_at: Uptime::new(Duration::ZERO),
            idle_since: Uptime::new(Duration::ZERO),
            failed_at: None,
            load_times: Vec::new(),
            memory_retry: MemoryRetry::Unused,
            no_room: None,
            is_for_requests_alone: false,
            pending_commands: Vec::new(),
            launch: LatestLaunch::new(Incarnation::new(0), LaunchState::Down),
        }
    }

    /// With the number of its latest launch before it left the configuration.
    pub(crate) fn continued_from(mut self, latest: Incarnation) -> Self {
        self.launch.incarnation = latest;
        self
    }

    /// Gives the next launch this number.
    pub(crate) fn continue_before(&mut self, next: Incarnation) {
        self.launch.incarnation = Incarnation::new(next.get().saturating_sub(1));
    }

    /// Whether a launch of it has no process yet, or one that is being stopped.
    pub(crate) fn is_between(&self) -> bool {
        match self.launch.state {
            LaunchState::Down => false,
            LaunchState::Requested | LaunchState::Stopping => true,
            LaunchState::Starting | LaunchState::Ready => {
                !self.launch.has_process || self.launch.pending_stop.is_some() || self.launch.gate != Gate::Open
            }
        }
    }

    pub(crate) const fn incarnation(&self) -> Incarnation {
        self.launch.incarnation
    }

    /// How the memory of the latest launch is accounted for; `None` where it has none.
    pub(crate) fn reservation_stage(&self) -> Option<ReservationStage> {
        // A launch whose stop is only pending already counts as ending: nothing keeps it from being stopped.
        let is_ending = self.launch.state == LaunchState::Stopping || self.launch.pending_stop.is_some();
        match self.launch.state {
            LaunchState::Down => None,
            _ if is_ending && self.launch.was_ready => Some(ReservationStage::Stopping),
            _ if is_ending => Some(ReservationStage::Cancelled),
            LaunchState::Ready => Some(ReservationStage::Ready),
            _ => Some(ReservationStage::Starting),
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.launch.state == LaunchState::Down
    }

    /// Whether a launch is under way or due, and no stop leaves it down.
    pub(crate) fn is_up(&self) -> bool {
        self.wanted.is_some() && (!self.is_down() || self.due_launch().is_some())
    }

    pub(crate) const fn is_stopped_by_user(&self) -> bool {
        self.stopped_by_user
    }

    /// The failure that no restart follows, if that is why it is down.
    pub(crate) fn left_failure(&self) -> Option<LeftFailure> {
        let is_left = self.is_down() && self.launch.policy_applied && self.restart_at.is_none();
        let (reason, detail) = self.launch.failure.clone().filter(|_| is_left && self.due_launch().is_none())?;
        Some(LeftFailure { reason, detail, abandoned: self.launch.abandoned.clone() })
    }

    /// Stays down as an earlier daemon has left it: with a failure, or because a person has stopped it.
    pub(crate) fn leave_down(&mut self, failed: Option<LeftFailure>, actions: &mut Actions) {
        let event = Event::ServerLeftDown { failed: failed.clone().map(Box::new) };
        actions.push(SupervisorAction::publish_server(self.server.clone(), event));
        let Some(LeftFailure { reason, detail, abandoned }) = failed else {
            self.stopped_by_user = true;
            return;
        };
        // Wanted and not due: as after the launch that failed.
        self.wanted = Some(self.launch.incarnation);
        self.launch.policy_applied = true;
        if abandoned.is_some() {
            self.watch_faulty_file(reason, actions);
        }
        self.launch.failure = Some((reason, detail));
        self.launch.abandoned = abandoned;
    }

    /// Has the file watched that a launch failed for, if there is one: the launch is tried again once it changes.
    fn watch_faulty_file(&self, reason: FailureReason, actions: &mut Actions) {
        actions.extend(FaultyFile::of(reason).map(|file| {
            let (server, incarnation) = (self.server.clone(), self.launch.incarnation);
            SupervisorAction::WatchFile { server, incarnation, file }
        }));
    }

    /// It leaves the configuration, and what a user wanted of it is forgotten with it, however long its stop takes.
    pub(crate) const fn forget_user(&mut self) {
        self.stopped_by_user = false;
    }

    /// Consecutive failures, to be kept across runs of the daemon.
    pub(crate) const fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// When [`Self::on_deadline`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Uptime> {
        [self.restart_at, self.drained_at()].into_iter().flatten().min()
    }

    pub(crate) fn set_policy(&mut self, policy: ServerPolicy) {
        self.policy = policy;
    }

    pub(crate) const fn policy(&self) -> &ServerPolicy {
        &self.policy
    }

    /// The origin of the launch that was sent to the launcher and is not ready yet, if there is one.
    pub(crate) fn loading_for(&self) -> Option<StartReason> {
        matches!(self.launch.state, LaunchState::Requested | LaunchState::Starting).then_some(self.start_reason)
    }

    /// The origin of the launch that may be sent to the launcher now, if one may.
    pub(crate) fn due_launch(&self) -> Option<StartReason> {
        let is_due = self.launch.state == LaunchState::Down
            && self.restart_at.is_none()
            && self.wanted.is_some_and(|wanted| wanted > self.launch.incarnation);
        is_due.then_some(self.start_reason)
    }

    /// Begins the launch that is due and returns its number. `warning` is published once the launcher has begun it, since
    /// the fold has no such launch before.
    pub(crate) fn launch(&mut self, warning: Option<String>) -> Incarnation {
        let (incarnation, state) = (self.launch.incarnation.next(), LaunchState::Requested);
        self.restart_is_announced = false;
        self.is_unloaded = false;
        self.no_room = None;
        self.launch = LatestLaunch { warning, ..LatestLaunch::new(incarnation, state) };
        incarnation
    }

    /// Fails the launch that is due for want of room. It uses up a launch number, so that the failure has a launch to
    /// be about and the restart policy counts it.
    pub(crate) fn refuse(&mut self, refused: Refused, input: BackoffInput, actions: &mut Actions) {
        let is_for_requests = self.start_reason == StartReason::Demand;
        self.launch(None);
        self.no_room = Some(NoRoom { refused: refused.clone(), at: input.now, is_for_requests });
        self.on_launch_refused(refused.detail, input, actions);
    }

    /// Publishes an event about the latest launch.
    fn publish(&self, event: Event, actions: &mut Actions) {
        let (server, incarnation) = (Some(self.server.clone()), Some(self.launch.incarnation));
        actions.push(SupervisorAction::Publish { server, incarnation, event });
    }

    /// Sends the stop to the terminator, or keeps it until there is a launch to stop.
    fn request_stop(&mut self, stop: StopRequest, actions: &mut Actions) {
        match self.launch.state {
            LaunchState::Down => {}
            // `TerminateServer` goes to another owner than `LaunchServer` and may overtake it: its first signals would find
            // no launch and be lost.
            LaunchState::Requested => self.launch.pending_stop = Some(stop),
            // The stop under way is enough. Only another grace is worth sending: the terminator may shorten the stop by it.
            LaunchState::Stopping if stop.grace.is_none() => {}
            LaunchState::Ready if Self::is_released_first(&stop) => self.stop_behind_gate(stop, actions),
            LaunchState::Starting | LaunchState::Ready | LaunchState::Stopping => self.terminate(stop, actions),
        }
    }

    fn terminate(&mut self, stop: StopRequest, actions: &mut Actions) {
        self.launch.state = LaunchState::Stopping;
        self.launch.pending_stop = None;
        let (server, incarnation) = (self.server.clone(), self.launch.incarnation);
        let StopRequest { reason, grace, .. } = stop;
        actions.push(SupervisorAction::Terminate { server, incarnation, reason, grace });
    }

    /// Answers every command whose goal is reached, or can no longer be reached.
    fn answer_commands(&mut self, actions: &mut Actions) {
        let LatestLaunch { incarnation, state, ref failure, .. } = self.launch;
        let outcome = |goal: Goal| match goal {
            Goal::Down(last) if incarnation > last || state == LaunchState::Down => Some(CommandOutcome::Stopped),
            Goal::Ready(target) if incarnation >= target && state == LaunchState::Ready => Some(CommandOutcome::Ready),
            // A failure is the answer even where policy tries again: the sender learns the reason at once.
            Goal::Ready(target) if incarnation >= target => failure
                .as_ref()
                .map(|(reason, detail)| CommandOutcome::Failed { reason: *reason, detail: detail.clone() }),
            // The launch that the command waits for has not begun; what an earlier one does is no answer.
            Goal::Ready(_) | Goal::Down(_) => None,
        };
        self.pending_commands.retain(|command| {
            let Some(outcome) = outcome(command.goal) else { return true };
            actions.push(SupervisorAction::Complete { server: Some(self.server.clone()), id: command.id, outcome });
            false
        });
    }
}
