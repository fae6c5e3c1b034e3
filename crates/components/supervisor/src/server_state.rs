//! One server's desired and actual state.
//!
//! A wish to run names the least launch that satisfies it: a start of a running server is satisfied by the launch under
//! way, a restart only by a later one. That one number serialises starts, stops and restarts that cross.

use std::time::Duration;

use llama_warden_config::{RestartSpec, Shared};
use llama_warden_events::{
    CommandOutcome, FailureReason, Incarnation, ProcessEnd, RefusalReason, Seq, StopReason, Uptime,
};
use llama_warden_state::{PhaseName, ServerRecord};

use crate::action::ServerStateAction;
use crate::backoff::{Backoff, Decision};
use crate::budget::ReservationStage;

/// How far the latest launch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaunchState {
    /// Nothing runs and nothing is on its way.
    Down,
    /// The launcher was asked and has not begun; a signal would find nothing yet.
    Requested,
    /// On its way to ready.
    Starting,
    Ready,
    /// Its end was asked for.
    Stopping,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// Ready in this launch or a later one.
    Ready(Incarnation),
    /// No process of this launch or an earlier one.
    Down(Incarnation),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PendingCommand {
    id: Seq,
    goal: Goal,
}

/// A wish for the end of the launch under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct StopRequest {
    reason: StopReason,
    grace: Option<Duration>,
}

/// Who wants the next launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StartReason {
    /// A person, or the start of the daemon.
    Requested,
    /// The restart policy.
    RestartPolicy,
}

/// What a decision after a failure depends on beside the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackoffInput {
    pub(crate) now: Uptime,
    /// A random number from 0 to 1.
    pub(crate) jitter: f64,
}

#[derive(Debug)]
pub(crate) struct ServerState {
    restart: Shared<RestartSpec>,
    backoff: Backoff,
    /// When policy launches it again.
    restart_at: Option<Uptime>,
    incarnation: Incarnation,
    launch_state: LaunchState,
    /// Whether the launch has come as far as a process.
    has_process: bool,
    /// Whether it has come as far as ready.
    was_ready: bool,
    /// Whether a stop of the launch was announced; its completion will be too, and is the end.
    stop_began: bool,
    end: Option<ProcessEnd>,
    /// The least launch that is wanted; `None` when the server should be down.
    wanted: Option<Incarnation>,
    start_reason: StartReason,
    /// A person stopped it, and nobody has asked for it since.
    is_stopped_by_user: bool,
    /// Wished for while the launcher had not begun.
    pending_stop: Option<StopRequest>,
    /// To be told once the launch has begun.
    warning: Option<Box<str>>,
    failure: Option<Box<(FailureReason, String)>>,
    /// Whether policy has spoken about the failure.
    policy_applied: bool,
    pending_commands: Vec<PendingCommand>,
}

impl ServerState {
    /// A server that was never launched, with the failures of an earlier run of the daemon.
    pub(crate) const fn new(restart: Shared<RestartSpec>, failures: u32) -> Self {
        Self {
            restart,
            backoff: Backoff::resumed(failures),
            restart_at: None,
            incarnation: Incarnation::new(0),
            launch_state: LaunchState::Down,
            has_process: false,
            was_ready: false,
            stop_began: false,
            end: None,
            wanted: None,
            start_reason: StartReason::Requested,
            is_stopped_by_user: false,
            pending_stop: None,
            warning: None,
            failure: None,
            policy_applied: false,
            pending_commands: Vec::new(),
        }
    }

    pub(crate) const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// How far a launch has come that holds memory.
    pub(crate) fn stage(&self) -> Option<ReservationStage> {
        match self.launch_state {
            LaunchState::Down => None,
            LaunchState::Requested if self.pending_stop.is_none() => Some(ReservationStage::Starting),
            LaunchState::Starting => Some(ReservationStage::Starting),
            LaunchState::Ready => Some(ReservationStage::Ready),
            LaunchState::Requested | LaunchState::Stopping if !self.was_ready => Some(ReservationStage::Cancelled),
            LaunchState::Requested | LaunchState::Stopping => Some(ReservationStage::Stopping),
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.launch_state == LaunchState::Down
    }

    /// Whether it is between the wish for a launch and ready, and who wished.
    pub(crate) fn starting_for(&self) -> Option<StartReason> {
        matches!(self.launch_state, LaunchState::Requested | LaunchState::Starting).then_some(self.start_reason)
    }

    pub(crate) const fn is_stopped_by_user(&self) -> bool {
        self.is_stopped_by_user
    }

    /// Whether a launch is due, and who wishes it.
    pub(crate) fn due_launch(&self) -> Option<StartReason> {
        let due = self.launch_state == LaunchState::Down
            && self.restart_at.is_none()
            && self.wanted.is_some_and(|wanted| wanted > self.incarnation);
        due.then_some(self.start_reason)
    }

    /// Begins the launch that is due. `warning` is told when the launcher has begun it.
    pub(crate) fn launch(&mut self, warning: Option<String>) -> Incarnation {
        self.warning = warning.map(String::into_boxed_str);
        self.incarnation = self.incarnation.next();
        self.launch_state = LaunchState::Requested;
        self.has_process = false;
        self.was_ready = false;
        self.stop_began = false;
        self.end = None;
        self.failure = None;
        self.policy_applied = false;
        self.incarnation
    }

    /// There is no memory for the launch that is due: it fails before it begins.
    pub(crate) fn refuse(&mut self, detail: String, input: BackoffInput, actions: &mut Vec<ServerStateAction>) {
        let incarnation = self.launch(None);
        self.on_launch_refused(incarnation, detail, input, actions);
    }

    /// Consecutive failures, to be kept across runs of the daemon.
    pub(crate) const fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    pub(crate) const fn restart_at(&self) -> Option<Uptime> {
        self.restart_at
    }

    /// Takes over another restart policy.
    pub(crate) fn set_restart(&mut self, restart: Shared<RestartSpec>) {
        self.restart = restart;
    }

    /// `id` is absent for what starts by itself.
    pub(crate) fn start(&mut self, id: Option<Seq>, actions: &mut Vec<ServerStateAction>) {
        let joinable = matches!(self.launch_state, LaunchState::Requested | LaunchState::Starting | LaunchState::Ready)
            && self.pending_stop.is_none();
        let target = if joinable { self.incarnation } else { self.incarnation.next() };
        self.reset_failures(id, actions);
        self.request_launch(target, id, actions);
    }

    /// `id` is absent for a change of the configuration.
    pub(crate) fn restart(&mut self, id: Option<Seq>, grace: Option<Duration>, actions: &mut Vec<ServerStateAction>) {
        self.reset_failures(id, actions);
        // The end first: what is launched for this wish must not be ended by it.
        self.request_stop(StopRequest { reason: StopReason::Restart, grace }, actions);
        self.request_launch(self.incarnation.next(), id, actions);
    }

    pub(crate) fn stop(
        &mut self,
        id: Option<Seq>,
        reason: StopReason,
        grace: Option<Duration>,
        actions: &mut Vec<ServerStateAction>,
    ) {
        self.wanted = None;
        self.is_stopped_by_user |= reason == StopReason::Requested;
        self.cancel_restart(actions);
        for command in self.pending_commands.extract_if(.., |command| matches!(command.goal, Goal::Ready(_))) {
            let outcome = match id {
                Some(by) => CommandOutcome::Superseded { by },
                None => CommandOutcome::Refused { reason: RefusalReason::ShuttingDown },
            };
            actions.push(ServerStateAction::Complete { id: command.id, outcome });
        }
        if let Some(id) = id {
            self.pending_commands.push(PendingCommand { id, goal: Goal::Down(self.incarnation) });
        }
        self.request_stop(StopRequest { reason, grace }, actions);
        self.answer_commands(actions);
    }

    /// The time of a scheduled restart has come.
    pub(crate) fn on_deadline(&mut self, now: Uptime) {
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart_at = None;
            self.wanted = Some(self.incarnation.next());
            self.start_reason = StartReason::RestartPolicy;
        }
    }

    pub(crate) fn on_launch_began(&mut self, incarnation: Incarnation, actions: &mut Vec<ServerStateAction>) {
        if incarnation != self.incarnation || self.launch_state != LaunchState::Requested {
            return;
        }
        self.launch_state = LaunchState::Starting;
        if let Some(detail) = self.warning.take() {
            actions.push(ServerStateAction::Warn { incarnation, detail: detail.into() });
        }
        if let Some(end) = self.pending_stop.take() {
            self.request_stop(end, actions);
        }
    }

    pub(crate) fn on_launch_refused(
        &mut self,
        incarnation: Incarnation,
        detail: String,
        input: BackoffInput,
        actions: &mut Vec<ServerStateAction>,
    ) {
        if incarnation == self.incarnation && self.launch_state == LaunchState::Requested {
            actions.push(ServerStateAction::Refuse { incarnation, detail: detail.clone() });
            self.failure = Some(Box::new((FailureReason::Refused, detail)));
            self.on_down(input, actions);
        }
    }

    pub(crate) fn on_spawned(&mut self, incarnation: Incarnation) {
        self.has_process |= incarnation == self.incarnation;
    }

    pub(crate) fn on_ready(&mut self, incarnation: Incarnation, now: Uptime, actions: &mut Vec<ServerStateAction>) {
        if incarnation == self.incarnation && self.launch_state == LaunchState::Starting {
            self.launch_state = LaunchState::Ready;
            self.was_ready = true;
            self.backoff.on_ready(now);
            self.answer_commands(actions);
        }
    }

    /// A failure ends the wish for this launch; whoever waits for it learns the reason.
    pub(crate) fn on_failed(
        &mut self,
        incarnation: Incarnation,
        failure: (FailureReason, String),
        input: BackoffInput,
        actions: &mut Vec<ServerStateAction>,
    ) {
        if incarnation != self.incarnation {
            return;
        }
        self.failure = Some(Box::new(failure));
        match self.launch_state {
            LaunchState::Starting | LaunchState::Ready if self.has_process => {
                self.request_stop(StopRequest { reason: StopReason::Failed, grace: None }, actions);
                self.answer_commands(actions);
            }
            // The exit came first, as it does for a crash.
            LaunchState::Down => self.on_down(input, actions),
            // Before there is a process, a failure is the end of the launch.
            _ if !self.has_process && !self.stop_began => self.on_down(input, actions),
            _ => {}
        }
    }

    pub(crate) fn on_stop_began(&mut self, incarnation: Incarnation) {
        self.stop_began |= incarnation == self.incarnation;
    }

    /// An end during a stop is complete when the stop is: whoever is told of it finds the stop's events already there.
    pub(crate) fn on_exited(
        &mut self,
        incarnation: Incarnation,
        end: ProcessEnd,
        input: BackoffInput,
        actions: &mut Vec<ServerStateAction>,
    ) {
        if incarnation == self.incarnation && self.launch_state != LaunchState::Down {
            self.end = Some(end);
            if !self.stop_began {
                self.on_down(input, actions);
            }
        }
    }

    pub(crate) fn on_stopped(
        &mut self,
        incarnation: Incarnation,
        input: BackoffInput,
        actions: &mut Vec<ServerStateAction>,
    ) {
        if incarnation == self.incarnation && self.launch_state != LaunchState::Down {
            self.on_down(input, actions);
        }
    }

    /// Events were missed: takes over what the snapshot says.
    pub(crate) fn on_snapshot(
        &mut self,
        record: &ServerRecord,
        input: BackoffInput,
        actions: &mut Vec<ServerStateAction>,
    ) {
        if record.incarnation != self.incarnation {
            return;
        }
        self.has_process = record.is_running();
        self.end = record.last_end;
        if let Some(failure) = &record.failure {
            self.failure = Some(Box::new((failure.reason, failure.detail.clone())));
        }
        match record.phase.name() {
            PhaseName::Idle => {}
            PhaseName::Exited | PhaseName::Failed | PhaseName::BackingOff => {
                if self.launch_state != LaunchState::Down {
                    self.on_down(input, actions);
                }
            }
            PhaseName::Stopping => self.launch_state = LaunchState::Stopping,
            PhaseName::Launching | PhaseName::Starting | PhaseName::Loading => {
                self.on_launch_began(record.incarnation, actions);
            }
            PhaseName::Ready | PhaseName::Unready => {
                self.on_launch_began(record.incarnation, actions);
                self.on_ready(record.incarnation, input.now, actions);
            }
        }
    }

    /// A person's wish clears the count of failures.
    fn reset_failures(&mut self, id: Option<Seq>, actions: &mut Vec<ServerStateAction>) {
        if id.is_some() {
            self.backoff = Backoff::default();
        }
        self.cancel_restart(actions);
    }

    fn cancel_restart(&mut self, actions: &mut Vec<ServerStateAction>) {
        if self.restart_at.take().is_some() {
            actions.push(ServerStateAction::CancelRestart { incarnation: self.incarnation });
        }
    }

    fn request_launch(&mut self, target: Incarnation, id: Option<Seq>, actions: &mut Vec<ServerStateAction>) {
        self.wanted = Some(self.wanted.map_or(target, |wanted| wanted.max(target)));
        self.start_reason = StartReason::Requested;
        self.is_stopped_by_user = false;
        self.pending_commands.extend(id.map(|id| PendingCommand { id, goal: Goal::Ready(target) }));
        self.answer_commands(actions);
    }

    fn request_stop(&mut self, stop: StopRequest, actions: &mut Vec<ServerStateAction>) {
        match self.launch_state {
            LaunchState::Down => {}
            LaunchState::Requested => self.pending_stop = Some(stop),
            LaunchState::Starting | LaunchState::Ready | LaunchState::Stopping => {
                // A stop under way is joined: the terminator lets a repeated request only shorten it.
                let joins_silently = self.launch_state == LaunchState::Stopping && stop.grace.is_none();
                self.launch_state = LaunchState::Stopping;
                if !joins_silently {
                    let StopRequest { reason, grace } = stop;
                    actions.push(ServerStateAction::Terminate { incarnation: self.incarnation, reason, grace });
                }
            }
        }
    }

    fn on_down(&mut self, input: BackoffInput, actions: &mut Vec<ServerStateAction>) {
        self.launch_state = LaunchState::Down;
        self.pending_stop = None;
        self.answer_commands(actions);
        let satisfied = self.wanted.is_some_and(|wanted| wanted <= self.incarnation);
        if let (Some((reason, _)), true, false) = (self.failure.as_deref(), satisfied, self.policy_applied) {
            self.policy_applied = true;
            // How it ended says something only where it ended by itself: a wedged server may obey our TERM and exit with 0.
            let end = self.end.filter(|_| !self.stop_began);
            let decision = self.backoff.on_failure(&self.restart, *reason, end, input.now, input.jitter);
            let incarnation = self.incarnation;
            match decision {
                Decision::Leave => {}
                Decision::Restart { attempt, delay } => {
                    self.restart_at = Some(Uptime::new(input.now.as_duration().saturating_add(delay)));
                    actions.push(ServerStateAction::ScheduleRestart { incarnation, attempt, delay });
                }
                Decision::Abandon { attempts, because } => {
                    actions.push(ServerStateAction::AbandonRestart { incarnation, attempts, because });
                }
            }
        }
    }

    /// Answers every command whose goal is reached or out of reach.
    fn answer_commands(&mut self, actions: &mut Vec<ServerStateAction>) {
        let (incarnation, launch) = (self.incarnation, self.launch_state);
        let failed = self.failure.as_deref();
        let reached = |goal: Goal| match goal {
            Goal::Down(last) if incarnation > last || launch == LaunchState::Down => Some(CommandOutcome::Stopped),
            Goal::Ready(target) if incarnation >= target && launch == LaunchState::Ready => Some(CommandOutcome::Ready),
            Goal::Ready(target) if incarnation >= target => {
                failed.map(|(reason, detail)| CommandOutcome::Failed { reason: *reason, detail: detail.clone() })
            }
            Goal::Ready(_) | Goal::Down(_) => None,
        };
        self.pending_commands.retain(|command| match reached(command.goal) {
            Some(outcome) => {
                actions.push(ServerStateAction::Complete { id: command.id, outcome });
                false
            }
            None => true,
        });
    }
}
