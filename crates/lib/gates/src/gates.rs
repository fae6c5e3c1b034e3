//! Every gate, and what arrivals, launches, commands and the time change about them.
//!
//! Invariants: a request is admitted only through an open gate of a ready launch; each waiter is answered once, by an admission, a
//! refusal or its own leaving; at most `concurrency` requests work at a time, light ones apart; demand is told by its edges.
//! A gate is filed under its next deadline after each change, so that the next one of all is at hand however many gates there are.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use llama_warden_events::{Incarnation, ServerId, Uptime};

use crate::gate::{GateAdmission, GateStanding, ServerGate, TELL_AGAIN};
use crate::passing::{AdmittedAs, Arrival, Arrived, GateAction, Ticket};

/// Every gate.
#[derive(Debug)]
pub struct Gates {
    gates: BTreeMap<ServerId, ServerGate>,
    /// The next deadline of each gate that has one.
    deadlines: BTreeSet<(Uptime, ServerId)>,
    last_ticket: u64,
    patience: Duration,
}

impl Default for Gates {
    fn default() -> Self {
        Self::new(TELL_AGAIN)
    }
}

impl Gates {
    /// No gate is open. Requests that wait for a slot become demand after `patience`, and after a second at the latest.
    pub const fn new(patience: Duration) -> Self {
        Self { gates: BTreeMap::new(), deadlines: BTreeSet::new(), last_ticket: 0, patience }
    }

    /// A request comes.
    pub fn arrive(&mut self, server: &ServerId, arrival: Arrival, now: Uptime) -> (Arrived, Vec<GateAction>) {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.change_or_new(server, |gate| {
            gate.configure(&arrival);
            let mut actions = Vec::new();
            let arrived = match gate.arrive(&arrival) {
                Some(GateAdmission { incarnation, begins_use }) => {
                    actions.extend(begins_use.then(|| GateAction::UseBegan(server.clone(), incarnation)));
                    Arrived::Admitted(incarnation)
                }
                // One that was admitted before has its place already.
                None if arrival.lost_with.is_none() && gate.waiting() >= arrival.queue as usize => Arrived::QueueFull,
                None => {
                    gate.wait(ticket, arrival, now);
                    Arrived::Waits(ticket)
                }
            };
            actions.extend(gate.demand(server, now));
            (arrived, actions)
        })
    }

    /// A request that waits has left.
    pub fn leave(&mut self, server: &ServerId, ticket: Ticket, now: Uptime) -> Vec<GateAction> {
        self.change(server, |gate| {
            gate.forget(ticket);
            gate.demand(server, now).into_iter().collect()
        })
    }

    /// Every request that waits for a server has been answered otherwise. Gives their tickets.
    pub fn dismiss(&mut self, server: &ServerId, now: Uptime) -> (Vec<Ticket>, Vec<GateAction>) {
        self.change(server, |gate| (gate.dismiss(), gate.demand(server, now).into_iter().collect()))
    }

    /// A request that was admitted has ended.
    pub fn finish(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        admitted: AdmittedAs,
        now: Uptime,
    ) -> Vec<GateAction> {
        self.change(server, |gate| {
            if admitted == AdmittedAs::Replay {
                gate.replay_ended(incarnation);
            }
            let released = gate.finish(incarnation, admitted != AdmittedAs::Light, now);
            let mut actions = Self::step(server, gate, now);
            actions.extend(released.then(|| GateAction::Released { server: server.clone(), incarnation, left: 0 }));
            actions
        })
    }

    /// A launch became ready, or ready again.
    pub fn open(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<GateAction> {
        self.change_or_new(server, |gate| {
            gate.open(incarnation);
            Self::step(server, gate, now)
        })
    }

    /// A launch is not ready for a while.
    pub fn pause(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<GateAction> {
        self.change(server, |gate| {
            gate.pause(incarnation);
            gate.demand(server, now).into_iter().collect()
        })
    }

    /// A launch that is ready has answered as if it were not: nothing goes to it before health has looked.
    pub fn doubt(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<GateAction> {
        self.change(server, |gate| {
            let look = gate.pause(incarnation).then(|| GateAction::Look(server.clone(), incarnation));
            look.into_iter().chain(gate.demand(server, now)).collect()
        })
    }

    /// The supervisor has decided about a launch otherwise than those that wait may think: it is told of them again.
    pub fn tell_again(&mut self, server: &ServerId, now: Uptime) -> Vec<GateAction> {
        self.change(server, |gate| {
            gate.forget_told();
            gate.demand(server, now).into_iter().collect()
        })
    }

    /// A launch that was paused answers.
    pub fn resume(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<GateAction> {
        self.change(server, |gate| if gate.resume(incarnation) { Self::step(server, gate, now) } else { Vec::new() })
    }

    /// A launch is stopped, has failed or is over: nothing goes to it any more.
    pub fn close(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<GateAction> {
        self.change(server, |gate| {
            let released = gate.close(incarnation);
            let ended = gate.use_ended().map(|at| GateAction::UseEnded(server.clone(), incarnation, at));
            // Its process is going; what is in flight ends with it.
            let released = released.map(|left| GateAction::Released { server: server.clone(), incarnation, left });
            // Those that waited for a slot wait for the next launch now.
            ended.into_iter().chain(released).chain(gate.demand(server, now)).collect()
        })
    }

    /// A request's answer has begun: whether it ends its launch is known, and the next one that a crash has lost may go.
    pub fn answer_began(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<GateAction> {
        self.change(server, |gate| {
            gate.replay_ended(incarnation);
            Self::step(server, gate, now)
        })
    }

    /// The number of slots of a launch.
    pub fn set_slots(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        slots: NonZeroU32,
        now: Uptime,
    ) -> Vec<GateAction> {
        self.change(server, |gate| {
            gate.set_slots(incarnation, slots);
            Self::step(server, gate, now)
        })
    }

    /// The supervisor asks that nothing goes to a launch any more. `Err`: with how many requests are in flight.
    pub fn release(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        drain: Duration,
        now: Uptime,
    ) -> Result<Vec<GateAction>, u32> {
        let released = || GateAction::Released { server: server.clone(), incarnation, left: 0 };
        self.change_or_new(server, |gate| {
            gate.release(incarnation, drain, now).map(|is_idle| {
                let released = (is_idle && !drain.is_zero()).then(released);
                released.into_iter().chain(gate.demand(server, now)).collect()
            })
        })
    }

    /// The launch is not stopped after all.
    pub fn reopen(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<GateAction> {
        self.change(server, |gate| {
            gate.reopen(incarnation);
            Self::step(server, gate, now)
        })
    }

    /// A server is configured no more, which the supervisor knows. Gives the tickets of those that wait.
    pub fn remove(&mut self, server: &ServerId) -> Vec<Ticket> {
        let Some(mut gate) = self.gates.remove(server) else { return Vec::new() };
        if let Some(filed) = gate.filed {
            self.deadlines.remove(&(filed, server.clone()));
        }
        gate.dismiss()
    }

    /// A request of a server has worked for so long.
    pub fn note_work(&mut self, server: &ServerId, took: Duration) {
        if let Some(gate) = self.gates.get_mut(server) {
            gate.note_work(took);
        }
    }

    /// A launch of a server became ready after so long.
    pub fn note_load(&mut self, server: &ServerId, took: Duration) {
        self.change_or_new(server, |gate| gate.note_load(took));
    }

    /// How long a launch of a server takes to become ready, as the latest ones did; `None` before the first.
    pub fn expected_load(&self, server: &ServerId) -> Option<Duration> {
        self.gates.get(server).and_then(ServerGate::expected_load)
    }

    /// How long a request that comes now waits for its turn once the server is ready; `None` where none has worked yet.
    pub fn expected_turn(&self, server: &ServerId) -> Option<Duration> {
        self.gates.get(server).and_then(ServerGate::expected_turn)
    }

    /// Whether a launch of the server takes requests, so that only a slot is waited for.
    pub fn is_open(&self, server: &ServerId) -> bool {
        self.gates.get(server).is_some_and(ServerGate::is_open)
    }

    /// How a server stands.
    pub fn standing(&self, server: &ServerId) -> GateStanding {
        self.gates.get(server).map(ServerGate::standing).unwrap_or_default()
    }

    /// When `on_deadline` has something to do, if nothing else happens.
    pub fn next_deadline(&self) -> Option<Uptime> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The time that `next_deadline` named has come.
    pub fn on_deadline(&mut self, now: Uptime) -> Vec<GateAction> {
        let due: Vec<ServerId> =
            self.deadlines.iter().take_while(|(at, _)| *at <= now).map(|(_, server)| server.clone()).collect();
        let mut actions = Vec::new();
        for server in due {
            actions.extend(self.change(&server, |gate| {
                let released = gate.drained(now).map(|(incarnation, left)| GateAction::Released {
                    server: server.clone(),
                    incarnation,
                    left,
                });
                let idle = gate.idle_since(now);
                let ended = idle.map(|(incarnation, at)| GateAction::UseEnded(server.clone(), incarnation, at));
                released.into_iter().chain(ended).chain(gate.demand(&server, now)).collect::<Vec<_>>()
            }));
        }
        actions
    }

    /// Changes a gate, if there is one, and files it under its next deadline.
    fn change<T: Default>(&mut self, server: &ServerId, change: impl FnOnce(&mut ServerGate) -> T) -> T {
        match self.gates.get_mut(server) {
            Some(gate) => {
                let result = change(gate);
                Self::file(&mut self.deadlines, server, gate);
                result
            }
            None => T::default(),
        }
    }

    fn change_or_new<T>(&mut self, server: &ServerId, change: impl FnOnce(&mut ServerGate) -> T) -> T {
        let gate = self.gates.entry(server.clone()).or_insert_with(|| ServerGate::new(self.patience));
        let result = change(gate);
        Self::file(&mut self.deadlines, server, gate);
        result
    }

    fn file(deadlines: &mut BTreeSet<(Uptime, ServerId)>, server: &ServerId, gate: &mut ServerGate) {
        let next = gate.next_deadline();
        let filed = std::mem::replace(&mut gate.filed, next);
        if filed == next {
            return;
        }
        if let Some(filed) = filed {
            deadlines.remove(&(filed, server.clone()));
        }
        deadlines.extend(next.map(|next| (next, server.clone())));
    }

    /// Lets go who may, and tells what changed about the demand.
    fn step(server: &ServerId, gate: &mut ServerGate, now: Uptime) -> Vec<GateAction> {
        let mut actions = Vec::new();
        while let Some((ticket, admission)) = gate.next_admission() {
            actions.extend(admission.begins_use.then(|| GateAction::UseBegan(server.clone(), admission.incarnation)));
            actions.push(GateAction::Admit(ticket, admission.incarnation));
        }
        actions.extend(gate.demand(server, now));
        actions
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
