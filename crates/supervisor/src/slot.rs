//! One server's desired and actual state.
//!
//! A wish to run names the least launch that satisfies it: a start of a running server is satisfied by the launch under
//! way, a restart only by a later one. That one number serialises starts, stops and restarts that cross.

use std::time::Duration;

use llama_warden_events::{CommandOutcome, FailureReason, Incarnation, RefusalReason, Seq, StopReason};
use llama_warden_state::{PhaseName, ServerRecord};

/// What the slot wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SlotAction {
    Launch(Incarnation),
    Terminate { incarnation: Incarnation, reason: StopReason, grace: Option<Duration> },
    Complete { id: Seq, outcome: CommandOutcome },
}

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

#[derive(Debug)]
pub(crate) struct Slot {
    incarnation: Incarnation,
    life: Life,
    /// Whether the launch has come as far as a process.
    has_process: bool,
    /// Whether a stop of the launch was announced; its completion will be too, and is the end.
    stop_began: bool,
    /// The least launch that is wanted; `None` when the server should be down.
    wanted: Option<Incarnation>,
    /// Wished for while the launcher had not begun.
    pending_end: Option<End>,
    failure: Option<(FailureReason, String)>,
    tickets: Vec<Ticket>,
}

impl Slot {
    pub(crate) const fn new() -> Self {
        Self {
            incarnation: Incarnation(0),
            life: Life::Down,
            has_process: false,
            stop_began: false,
            wanted: None,
            pending_end: None,
            failure: None,
            tickets: Vec::new(),
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.life == Life::Down
    }

    /// `id` is absent for what starts by itself.
    pub(crate) fn start(&mut self, id: Option<Seq>, actions: &mut Vec<SlotAction>) {
        let joinable = matches!(self.life, Life::Asked | Life::Rising | Life::Ready) && self.pending_end.is_none();
        let target = if joinable { self.incarnation } else { self.incarnation.next() };
        self.want(target, id, actions);
    }

    pub(crate) fn restart(&mut self, id: Seq, grace: Option<Duration>, actions: &mut Vec<SlotAction>) {
        // The end first: what is launched for this wish must not be ended by it.
        self.end(End { reason: StopReason::Restart, grace }, actions);
        self.want(self.incarnation.next(), Some(id), actions);
    }

    pub(crate) fn stop(&mut self, id: Option<Seq>, end: StopReason, grace: Option<Duration>, actions: &mut Vec<SlotAction>) {
        self.wanted = None;
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
        self.end(End { reason: end, grace }, actions);
        self.settle(actions);
    }

    pub(crate) fn on_launch_began(&mut self, incarnation: Incarnation, actions: &mut Vec<SlotAction>) {
        if incarnation != self.incarnation || self.life != Life::Asked {
            return;
        }
        self.life = Life::Rising;
        if let Some(end) = self.pending_end.take() {
            self.end(end, actions);
        }
    }

    pub(crate) fn on_launch_refused(&mut self, incarnation: Incarnation, detail: String, actions: &mut Vec<SlotAction>) {
        if incarnation == self.incarnation && self.life == Life::Asked {
            self.failure = Some((FailureReason::Refused, detail));
            self.down(actions);
        }
    }

    pub(crate) fn on_spawned(&mut self, incarnation: Incarnation) {
        self.has_process |= incarnation == self.incarnation;
    }

    pub(crate) fn on_ready(&mut self, incarnation: Incarnation, actions: &mut Vec<SlotAction>) {
        if incarnation == self.incarnation && self.life == Life::Rising {
            self.life = Life::Ready;
            self.settle(actions);
        }
    }

    /// A failure ends the wish for this launch; whoever waits for it learns the reason.
    pub(crate) fn on_failed(
        &mut self,
        incarnation: Incarnation,
        reason: FailureReason,
        detail: &str,
        actions: &mut Vec<SlotAction>,
    ) {
        if incarnation != self.incarnation {
            return;
        }
        self.failure = Some((reason, detail.to_owned()));
        match self.life {
            Life::Rising | Life::Ready if self.has_process => {
                self.end(End { reason: StopReason::Failed, grace: None }, actions);
                self.settle(actions);
            }
            Life::Down => self.settle(actions),
            // Before there is a process, a failure is the end of the launch.
            _ if !self.has_process && !self.stop_began => self.down(actions),
            _ => {}
        }
    }

    pub(crate) fn on_stop_began(&mut self, incarnation: Incarnation) {
        self.stop_began |= incarnation == self.incarnation;
    }

    /// An end during a stop is complete when the stop is: whoever is told of it finds the stop's facts already there.
    pub(crate) fn on_exited(&mut self, incarnation: Incarnation, actions: &mut Vec<SlotAction>) {
        if incarnation == self.incarnation && self.life != Life::Down && !self.stop_began {
            self.down(actions);
        }
    }

    pub(crate) fn on_stopped(&mut self, incarnation: Incarnation, actions: &mut Vec<SlotAction>) {
        if incarnation == self.incarnation && self.life != Life::Down {
            self.down(actions);
        }
    }

    /// Facts were missed: takes over what the snapshot says.
    pub(crate) fn recall(&mut self, record: &ServerRecord, actions: &mut Vec<SlotAction>) {
        if record.incarnation != self.incarnation {
            return;
        }
        self.has_process = record.is_running();
        if let Some(failure) = &record.failure {
            self.failure = Some((failure.reason, failure.detail.clone()));
        }
        match record.phase.name() {
            PhaseName::Idle => {}
            PhaseName::Exited | PhaseName::Failed | PhaseName::BackingOff => {
                if self.life != Life::Down {
                    self.down(actions);
                }
            }
            PhaseName::Stopping => self.life = Life::Falling,
            PhaseName::Launching | PhaseName::Starting | PhaseName::Loading => {
                self.on_launch_began(record.incarnation, actions);
            }
            PhaseName::Ready | PhaseName::Unready => {
                self.on_launch_began(record.incarnation, actions);
                self.on_ready(record.incarnation, actions);
            }
        }
    }

    fn want(&mut self, target: Incarnation, id: Option<Seq>, actions: &mut Vec<SlotAction>) {
        self.wanted = Some(self.wanted.map_or(target, |wanted| wanted.max(target)));
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

    fn down(&mut self, actions: &mut Vec<SlotAction>) {
        self.life = Life::Down;
        self.pending_end = None;
        self.settle(actions);
    }

    /// Launches what is wanted and answers every ticket whose goal is reached or out of reach.
    fn settle(&mut self, actions: &mut Vec<SlotAction>) {
        let launch = self.life == Life::Down && self.wanted.is_some_and(|wanted| wanted > self.incarnation);
        let (incarnation, life) = (self.incarnation, self.life);
        let failed = self.failure.clone();
        let reached = |goal: Goal| match goal {
            Goal::Down(last) if incarnation > last || life == Life::Down => Some(CommandOutcome::Stopped),
            Goal::Ready(target) if incarnation >= target && life == Life::Ready => Some(CommandOutcome::Ready),
            Goal::Ready(target) if incarnation >= target => failed
                .as_ref()
                .map(|(reason, detail)| CommandOutcome::Failed { reason: *reason, detail: detail.clone() }),
            Goal::Ready(_) | Goal::Down(_) => None,
        };
        for ticket in std::mem::take(&mut self.tickets) {
            match reached(ticket.goal) {
                Some(outcome) => actions.push(SlotAction::Complete { id: ticket.id, outcome }),
                None => self.tickets.push(ticket),
            }
        }
        if launch {
            self.incarnation = self.incarnation.next();
            self.life = Life::Asked;
            self.has_process = false;
            self.stop_began = false;
            self.failure = None;
            actions.push(SlotAction::Launch(self.incarnation));
        }
    }
}
