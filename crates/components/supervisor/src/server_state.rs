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
struct End {
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
    life: LaunchState,
    /// Whether the launch has come as far as a process.
    has_process: bool,
    /// Whether it has come as far as ready.
    was_ready: bool,
    /// Whether a stop of the launch was announced; its completion will be too, and is the end.
    stop_began: bool,
    end: Option<ProcessEnd>,
    /// The least launch that is wanted; `None` when the server should be down.
    wanted: Option<Incarnation>,
    wish: StartReason,
    /// A person stopped it, and nobody has asked for it since.
    is_stopped_by_user: bool,
    /// Wished for while the launcher had not begun.
    pending_end: Option<End>,
    /// To be told once the launch has begun.
    warning: Option<Box<str>>,
    failure: Option<Box<(FailureReason, String)>>,
    /// Whether policy has spoken about the failure.
    judged: bool,
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
            life: LaunchState::Down,
            has_process: false,
            was_ready: false,
            stop_began: false,
            end: None,
            wanted: None,
            wish: StartReason::Requested,
            is_stopped_by_user: false,
            pending_end: None,
            warning: None,
            failure: None,
            judged: false,
            pending_commands: Vec::new(),
        }
    }

    pub(crate) const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// How far a launch has come that holds memory.
    pub(crate) fn stage(&self) -> Option<ReservationStage> {
        match self.life {
            LaunchState::Down => None,
            LaunchState::Requested if self.pending_end.is_none() => Some(ReservationStage::Starting),
            LaunchState::Starting => Some(ReservationStage::Starting),
            LaunchState::Ready => Some(ReservationStage::Ready),
            LaunchState::Requested | LaunchState::Stopping if !self.was_ready => Some(ReservationStage::Cancelled),
            LaunchState::Requested | LaunchState::Stopping => Some(ReservationStage::Stopping),
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.life == LaunchState::Down
    }

    /// Whether it is between the wish for a launch and ready, and who wished.
    pub(crate) fn rises_for(&self) -> Option<StartReason> {
        matches!(self.life, LaunchState::Requested | LaunchState::Starting).then_some(self.wish)
    }

    pub(crate) const fn is_stopped_by_user(&self) -> bool {
        self.is_stopped_by_user
    }

    /// Whether a launch is due, and who wishes it.
    pub(crate) fn awaits_launch(&self) -> Option<StartReason> {
        let due = self.life == LaunchState::Down
            && self.restart_at.is_none()
            && self.wanted.is_some_and(|wanted| wanted > self.incarnation);
        due.then_some(self.wish)
    }

    /// Begins the launch that is due. `warning` is told when the launcher has begun it.
    pub(crate) fn launch(&mut self, warning: Option<String>) -> Incarnation {
        self.warning = warning.map(String::into_boxed_str);
        self.incarnation = self.incarnation.next();
        self.life = LaunchState::Requested;
        self.has_process = false;
        self.was_ready = false;
        self.stop_began = false;
        self.end = None;
        self.failure = None;
        self.judged = false;
        self.incarnation
    }

    /// There is no memory for the launch that is due: it fails before it begins.
    pub(crate) fn refuse(&mut self, detail: String, moment: BackoffInput, actions: &mut Vec<ServerStateAction>) {
        let incarnation = self.launch(None);
        self.on_launch_refused(incarnation, detail, moment, actions);
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
        let joinable = matches!(self.life, LaunchState::Requested | LaunchState::Starting | LaunchState::Ready)
            && self.pending_end.is_none();
        let target = if joinable { self.incarnation } else { self.incarnation.next() };
        self.forget_failures(id, actions);
        self.want(target, id, actions);
    }

    /// `id` is absent for a change of the configuration.
    pub(crate) fn restart(&mut self, id: Option<Seq>, grace: Option<Duration>, actions: &mut Vec<ServerStateAction>) {
        self.forget_failures(id, actions);
        // The end first: what is launched for this wish must not be ended by it.
        self.end(End { reason: StopReason::Restart, grace }, actions);
        self.want(self.incarnation.next(), id, actions);
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
        for ticket in self.pending_commands.extract_if(.., |ticket| matches!(ticket.goal, Goal::Ready(_))) {
            let outcome = match id {
                Some(by) => CommandOutcome::Superseded { by },
                None => CommandOutcome::Refused { reason: RefusalReason::ShuttingDown },
            };
            actions.push(ServerStateAction::Complete { id: ticket.id, outcome });
        }
        if let Some(id) = id {
            self.pending_commands.push(PendingCommand { id, goal: Goal::Down(self.incarnation) });
        }
        self.end(End { reason, grace }, actions);
        self.settle(actions);
    }

    /// The time of a scheduled restart has come.
    pub(crate) fn on_deadline(&mut self, now: Uptime) {
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart_at = None;
            self.wanted = Some(self.incarnation.next());
            self.wish = StartReason::RestartPolicy;
        }
    }

    pub(crate) fn on_launch_began(&mut self, incarnation: Incarnation, actions: &mut Vec<ServerStateAction>) {
        if incarnation != self.incarnation || self.life != LaunchState::Requested {
            return;
        }
        self.life = LaunchState::Starting;
        if let Some(detail) = self.warning.take() {
            actions.push(ServerStateAction::Warn { incarnation, detail: detail.into() });
        }
        if let Some(end) = self.pending_end.take() {
            self.end(end, actions);
        }
    }

    pub(crate) fn on_launch_refused(
        &mut self,
        incarnation: Incarnation,
        detail: String,
        moment: BackoffInput,
        actions: &mut Vec<ServerStateAction>,
    ) {
        if incarnation == self.incarnation && self.life == LaunchState::Requested {
            actions.push(ServerStateAction::Refuse { incarnation, detail: detail.clone() });
            self.failure = Some(Box::new((FailureReason::Refused, detail)));
            self.down(moment, actions);
        }
    }

    pub(crate) fn on_spawned(&mut self, incarnation: Incarnation) {
        self.has_process |= incarnation == self.incarnation;
    }

    pub(crate) fn on_ready(&mut self, incarnation: Incarnation, now: Uptime, actions: &mut Vec<ServerStateAction>) {
        if incarnation == self.incarnation && self.life == LaunchState::Starting {
            self.life = LaunchState::Ready;
            self.was_ready = true;
            self.backoff.on_ready(now);
            self.settle(actions);
        }
    }

    /// A failure ends the wish for this launch; whoever waits for it learns the reason.
    pub(crate) fn on_failed(
        &mut self,
        incarnation: Incarnation,
        failure: (FailureReason, String),
        moment: BackoffInput,
        actions: &mut Vec<ServerStateAction>,
    ) {
        if incarnation != self.incarnation {
            return;
        }
        self.failure = Some(Box::new(failure));
        match self.life {
            LaunchState::Starting | LaunchState::Ready if self.has_process => {
                self.end(End { reason: StopReason::Failed, grace: None }, actions);
                self.settle(actions);
            }
            // The exit came first, as it does for a crash.
            LaunchState::Down => self.down(moment, actions),
            // Before there is a process, a failure is the end of the launch.
            _ if !self.has_process && !self.stop_began => self.down(moment, actions),
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
        moment: BackoffInput,
        actions: &mut Vec<ServerStateAction>,
    ) {
        if incarnation == self.incarnation && self.life != LaunchState::Down {
            self.end = Some(end);
            if !self.stop_began {
                self.down(moment, actions);
            }
        }
    }

    pub(crate) fn on_stopped(
        &mut self,
        incarnation: Incarnation,
        moment: BackoffInput,
        actions: &mut Vec<ServerStateAction>,
    ) {
        if incarnation == self.incarnation && self.life != LaunchState::Down {
            self.down(moment, actions);
        }
    }

    /// Events were missed: takes over what the snapshot says.
    pub(crate) fn recall(&mut self, record: &ServerRecord, moment: BackoffInput, actions: &mut Vec<ServerStateAction>) {
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
                if self.life != LaunchState::Down {
                    self.down(moment, actions);
                }
            }
            PhaseName::Stopping => self.life = LaunchState::Stopping,
            PhaseName::Launching | PhaseName::Starting | PhaseName::Loading => {
                self.on_launch_began(record.incarnation, actions);
            }
            PhaseName::Ready | PhaseName::Unready => {
                self.on_launch_began(record.incarnation, actions);
                self.on_ready(record.incarnation, moment.now, actions);
            }
        }
    }

    /// A person's wish clears the count of failures.
    fn forget_failures(&mut self, id: Option<Seq>, actions: &mut Vec<ServerStateAction>) {
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

    fn want(&mut self, target: Incarnation, id: Option<Seq>, actions: &mut Vec<ServerStateAction>) {
        self.wanted = Some(self.wanted.map_or(target, |wanted| wanted.max(target)));
        self.wish = StartReason::Requested;
        self.is_stopped_by_user = false;
        self.pending_commands.extend(id.map(|id| PendingCommand { id, goal: Goal::Ready(target) }));
        self.settle(actions);
    }

    fn end(&mut self, end: End, actions: &mut Vec<ServerStateAction>) {
        match self.life {
            LaunchState::Down => {}
            LaunchState::Requested => self.pending_end = Some(end),
            LaunchState::Starting | LaunchState::Ready | LaunchState::Stopping => {
                // A stop under way is joined: the terminator lets a repeated request only shorten it.
                let joins_silently = self.life == LaunchState::Stopping && end.grace.is_none();
                self.life = LaunchState::Stopping;
                if !joins_silently {
                    let End { reason, grace } = end;
                    actions.push(ServerStateAction::Terminate { incarnation: self.incarnation, reason, grace });
                }
            }
        }
    }

    fn down(&mut self, moment: BackoffInput, actions: &mut Vec<ServerStateAction>) {
        self.life = LaunchState::Down;
        self.pending_end = None;
        self.settle(actions);
        let satisfied = self.wanted.is_some_and(|wanted| wanted <= self.incarnation);
        if let (Some((reason, _)), true, false) = (self.failure.as_deref(), satisfied, self.judged) {
            self.judged = true;
            // How it ended says something only where it ended by itself: a wedged server may obey our TERM and exit with 0.
            let end = self.end.filter(|_| !self.stop_began);
            let decision = self.backoff.on_failure(&self.restart, *reason, end, moment.now, moment.jitter);
            let incarnation = self.incarnation;
            match decision {
                Decision::Leave => {}
                Decision::Restart { attempt, delay } => {
                    self.restart_at = Some(Uptime::new(moment.now.as_duration().saturating_add(delay)));
                    actions.push(ServerStateAction::ScheduleRestart { incarnation, attempt, delay });
                }
                Decision::Abandon { attempts, because } => {
                    actions.push(ServerStateAction::AbandonRestart { incarnation, attempts, because });
                }
            }
        }
    }

    /// Answers every ticket whose goal is reached or out of reach.
    fn settle(&mut self, actions: &mut Vec<ServerStateAction>) {
        let (incarnation, life) = (self.incarnation, self.life);
        let failed = self.failure.as_deref();
        let reached = |goal: Goal| match goal {
            Goal::Down(last) if incarnation > last || life == LaunchState::Down => Some(CommandOutcome::Stopped),
            Goal::Ready(target) if incarnation >= target && life == LaunchState::Ready => Some(CommandOutcome::Ready),
            Goal::Ready(target) if incarnation >= target => {
                failed.map(|(reason, detail)| CommandOutcome::Failed { reason: *reason, detail: detail.clone() })
            }
            Goal::Ready(_) | Goal::Down(_) => None,
        };
        self.pending_commands.retain(|ticket| match reached(ticket.goal) {
            Some(outcome) => {
                actions.push(ServerStateAction::Complete { id: ticket.id, outcome });
                false
            }
            None => true,
        });
    }
}
