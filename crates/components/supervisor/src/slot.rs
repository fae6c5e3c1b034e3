//! One server's desired and actual state.
//!
//! A wish to run names the least launch that satisfies it: a start of a running server is satisfied by the launch under
//! way, a restart only by a later one. That one number serialises starts, stops and restarts that cross.

use std::sync::Arc;
use std::time::Duration;

use llama_warden_config::RestartSpec;
use llama_warden_events::{
    CommandOutcome, FailureReason, Incarnation, ProcessEnd, RefusalReason, Seq, StopReason, Uptime,
};
use llama_warden_state::{PhaseName, ServerRecord};

use crate::action::SlotAction;
use crate::backoff::{Backoff, Decision};
use crate::balance::Stage;

/// How far the latest launch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Nothing runs and nothing is on its way.
    Down,
    /// The launcher was asked and has not begun; a signal would find nothing yet.
    Asked,
    /// On its way to ready.
    Rising,
    Ready,
    /// Its end was asked for.
    Falling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goal {
    /// Ready in this launch or a later one.
    Ready(Incarnation),
    /// No process of this launch or an earlier one.
    Down(Incarnation),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Ticket {
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
pub(crate) enum Wish {
    /// A person, or the start of the daemon.
    Asked,
    /// The restart policy.
    Policy,
}

/// What a decision after a failure depends on beside the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: Uptime,
    /// A random number from 0 to 1.
    pub(crate) draw: f64,
}

#[derive(Debug)]
pub(crate) struct Slot {
    restart: Arc<RestartSpec>,
    backoff: Backoff,
    /// When policy launches it again.
    restart_at: Option<Uptime>,
    incarnation: Incarnation,
    life: Life,
    /// Whether the launch has come as far as a process.
    has_process: bool,
    /// Whether it has come as far as ready.
    was_ready: bool,
    /// Whether a stop of the launch was announced; its completion will be too, and is the end.
    stop_began: bool,
    end: Option<ProcessEnd>,
    /// The least launch that is wanted; `None` when the server should be down.
    wanted: Option<Incarnation>,
    wish: Wish,
    /// A person stopped it, and nobody has asked for it since.
    is_held: bool,
    /// Wished for while the launcher had not begun.
    pending_end: Option<End>,
    /// To be told once the launch has begun.
    warning: Option<Box<str>>,
    failure: Option<Box<(FailureReason, String)>>,
    /// Whether policy has spoken about the failure.
    judged: bool,
    tickets: Vec<Ticket>,
}

impl Slot {
    /// A server that was never launched, with the failures of an earlier run of the daemon.
    pub(crate) const fn new(restart: Arc<RestartSpec>, failures: u32) -> Self {
        Self {
            restart,
            backoff: Backoff::resumed(failures),
            restart_at: None,
            incarnation: Incarnation::new(0),
            life: Life::Down,
            has_process: false,
            was_ready: false,
            stop_began: false,
            end: None,
            wanted: None,
            wish: Wish::Asked,
            is_held: false,
            pending_end: None,
            warning: None,
            failure: None,
            judged: false,
            tickets: Vec::new(),
        }
    }

    pub(crate) const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// How far a launch has come that holds memory.
    pub(crate) fn stage(&self) -> Option<Stage> {
        match self.life {
            Life::Down => None,
            Life::Asked if self.pending_end.is_none() => Some(Stage::Rising),
            Life::Rising => Some(Stage::Rising),
            Life::Ready => Some(Stage::Ready),
            Life::Asked | Life::Falling if !self.was_ready => Some(Stage::CalledOff),
            Life::Asked | Life::Falling => Some(Stage::Stopping),
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.life == Life::Down
    }

    /// Whether it is between the wish for a launch and ready, and who wished.
    pub(crate) fn rises_for(&self) -> Option<Wish> {
        matches!(self.life, Life::Asked | Life::Rising).then_some(self.wish)
    }

    pub(crate) const fn is_held(&self) -> bool {
        self.is_held
    }

    /// Whether a launch is due, and who wishes it.
    pub(crate) fn awaits_launch(&self) -> Option<Wish> {
        let due = self.life == Life::Down
            && self.restart_at.is_none()
            && self.wanted.is_some_and(|wanted| wanted > self.incarnation);
        due.then_some(self.wish)
    }

    /// Begins the launch that is due. `warning` is told when the launcher has begun it.
    pub(crate) fn launch(&mut self, warning: Option<String>) -> Incarnation {
        self.warning = warning.map(String::into_boxed_str);
        self.incarnation = self.incarnation.next();
        self.life = Life::Asked;
        self.has_process = false;
        self.was_ready = false;
        self.stop_began = false;
        self.end = None;
        self.failure = None;
        self.judged = false;
        self.incarnation
    }

    /// There is no memory for the launch that is due: it fails before it begins.
    pub(crate) fn refuse(&mut self, detail: String, moment: Moment, actions: &mut Vec<SlotAction>) {
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
    pub(crate) fn set_restart(&mut self, restart: Arc<RestartSpec>) {
        self.restart = restart;
    }

    /// `id` is absent for what starts by itself.
    pub(crate) fn start(&mut self, id: Option<Seq>, actions: &mut Vec<SlotAction>) {
        let joinable = matches!(self.life, Life::Asked | Life::Rising | Life::Ready) && self.pending_end.is_none();
        let target = if joinable { self.incarnation } else { self.incarnation.next() };
        self.forget_failures(id, actions);
        self.want(target, id, actions);
    }

    /// `id` is absent for a change of the configuration.
    pub(crate) fn restart(&mut self, id: Option<Seq>, grace: Option<Duration>, actions: &mut Vec<SlotAction>) {
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
        actions: &mut Vec<SlotAction>,
    ) {
        self.wanted = None;
        self.is_held |= reason == StopReason::Requested;
        self.cancel_restart(actions);
        for ticket in self.tickets.extract_if(.., |ticket| matches!(ticket.goal, Goal::Ready(_))) {
            let outcome = match id {
                Some(by) => CommandOutcome::Superseded { by },
                None => CommandOutcome::Refused { reason: RefusalReason::ShuttingDown },
            };
            actions.push(SlotAction::Complete { id: ticket.id, outcome });
        }
        if let Some(id) = id {
            self.tickets.push(Ticket { id, goal: Goal::Down(self.incarnation) });
        }
        self.end(End { reason, grace }, actions);
        self.settle(actions);
    }

    /// The time of a scheduled restart has come.
    pub(crate) fn on_deadline(&mut self, now: Uptime) {
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart_at = None;
            self.wanted = Some(self.incarnation.next());
            self.wish = Wish::Policy;
        }
    }

    pub(crate) fn on_launch_began(&mut self, incarnation: Incarnation, actions: &mut Vec<SlotAction>) {
        if incarnation != self.incarnation || self.life != Life::Asked {
            return;
        }
        self.life = Life::Rising;
        if let Some(detail) = self.warning.take() {
            actions.push(SlotAction::Warn { incarnation, detail: detail.into() });
        }
        if let Some(end) = self.pending_end.take() {
            self.end(end, actions);
        }
    }

    pub(crate) fn on_launch_refused(
        &mut self,
        incarnation: Incarnation,
        detail: String,
        moment: Moment,
        actions: &mut Vec<SlotAction>,
    ) {
        if incarnation == self.incarnation && self.life == Life::Asked {
            actions.push(SlotAction::Refuse { incarnation, detail: detail.clone() });
            self.failure = Some(Box::new((FailureReason::Refused, detail)));
            self.down(moment, actions);
        }
    }

    pub(crate) fn on_spawned(&mut self, incarnation: Incarnation) {
        self.has_process |= incarnation == self.incarnation;
    }

    pub(crate) fn on_ready(&mut self, incarnation: Incarnation, now: Uptime, actions: &mut Vec<SlotAction>) {
        if incarnation == self.incarnation && self.life == Life::Rising {
            self.life = Life::Ready;
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
        moment: Moment,
        actions: &mut Vec<SlotAction>,
    ) {
        if incarnation != self.incarnation {
            return;
        }
        self.failure = Some(Box::new(failure));
        match self.life {
            Life::Rising | Life::Ready if self.has_process => {
                self.end(End { reason: StopReason::Failed, grace: None }, actions);
                self.settle(actions);
            }
            // The exit came first, as it does for a crash.
            Life::Down => self.down(moment, actions),
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
        moment: Moment,
        actions: &mut Vec<SlotAction>,
    ) {
        if incarnation == self.incarnation && self.life != Life::Down {
            self.end = Some(end);
            if !self.stop_began {
                self.down(moment, actions);
            }
        }
    }

    pub(crate) fn on_stopped(&mut self, incarnation: Incarnation, moment: Moment, actions: &mut Vec<SlotAction>) {
        if incarnation == self.incarnation && self.life != Life::Down {
            self.down(moment, actions);
        }
    }

    /// Events were missed: takes over what the snapshot says.
    pub(crate) fn recall(&mut self, record: &ServerRecord, moment: Moment, actions: &mut Vec<SlotAction>) {
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
                if self.life != Life::Down {
                    self.down(moment, actions);
                }
            }
            PhaseName::Stopping => self.life = Life::Falling,
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
    fn forget_failures(&mut self, id: Option<Seq>, actions: &mut Vec<SlotAction>) {
        if id.is_some() {
            self.backoff = Backoff::default();
        }
        self.cancel_restart(actions);
    }

    fn cancel_restart(&mut self, actions: &mut Vec<SlotAction>) {
        if self.restart_at.take().is_some() {
            actions.push(SlotAction::CancelRestart { incarnation: self.incarnation });
        }
    }

    fn want(&mut self, target: Incarnation, id: Option<Seq>, actions: &mut Vec<SlotAction>) {
        self.wanted = Some(self.wanted.map_or(target, |wanted| wanted.max(target)));
        self.wish = Wish::Asked;
        self.is_held = false;
        self.tickets.extend(id.map(|id| Ticket { id, goal: Goal::Ready(target) }));
        self.settle(actions);
    }

    fn end(&mut self, end: End, actions: &mut Vec<SlotAction>) {
        match self.life {
            Life::Down => {}
            Life::Asked => self.pending_end = Some(end),
            Life::Rising | Life::Ready | Life::Falling => {
                // A stop under way is joined: the terminator lets a repeated request only shorten it.
                let joins_silently = self.life == Life::Falling && end.grace.is_none();
                self.life = Life::Falling;
                if !joins_silently {
                    let End { reason, grace } = end;
                    actions.push(SlotAction::Terminate { incarnation: self.incarnation, reason, grace });
                }
            }
        }
    }

    fn down(&mut self, moment: Moment, actions: &mut Vec<SlotAction>) {
        self.life = Life::Down;
        self.pending_end = None;
        self.settle(actions);
        let satisfied = self.wanted.is_some_and(|wanted| wanted <= self.incarnation);
        if let (Some((reason, _)), true, false) = (self.failure.as_deref(), satisfied, self.judged) {
            self.judged = true;
            // How it ended says something only where it ended by itself: a wedged server may obey our TERM and exit with 0.
            let end = self.end.filter(|_| !self.stop_began);
            let decision = self.backoff.on_failure(&self.restart, *reason, end, moment.now, moment.draw);
            let incarnation = self.incarnation;
            match decision {
                Decision::Leave => {}
                Decision::Restart { attempt, delay } => {
                    self.restart_at = Some(moment.now + delay);
                    actions.push(SlotAction::ScheduleRestart { incarnation, attempt, delay });
                }
                Decision::Abandon { attempts, because } => {
                    actions.push(SlotAction::AbandonRestart { incarnation, attempts, because });
                }
            }
        }
    }

    /// Answers every ticket whose goal is reached or out of reach.
    fn settle(&mut self, actions: &mut Vec<SlotAction>) {
        let (incarnation, life) = (self.incarnation, self.life);
        let failed = self.failure.as_deref();
        let reached = |goal: Goal| match goal {
            Goal::Down(last) if incarnation > last || life == Life::Down => Some(CommandOutcome::Stopped),
            Goal::Ready(target) if incarnation >= target && life == Life::Ready => Some(CommandOutcome::Ready),
            Goal::Ready(target) if incarnation >= target => {
                failed.map(|(reason, detail)| CommandOutcome::Failed { reason: *reason, detail: detail.clone() })
            }
            Goal::Ready(_) | Goal::Down(_) => None,
        };
        self.tickets.retain(|ticket| match reached(ticket.goal) {
            Some(outcome) => {
                actions.push(SlotAction::Complete { id: ticket.id, outcome });
                false
            }
            None => true,
        });
    }
}
