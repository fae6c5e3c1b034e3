//! Every gate, and what arrivals, launches, commands and the time change about them.
//!
//! Invariants: a request is admitted only through an open gate of a ready launch; each waiter is answered once, by an admission, a
//! refusal or its own leaving; at most `concurrency` requests work at a time, light ones apart; demand is told by its edges.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use llama_warden_events::{Incarnation, ServerId, Uptime};

use crate::gate::{GateAdmission, GateStanding, ServerGate};
use crate::queue::QueueClient;

/// A request, from its arrival at a gate to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// How long a server counts as used after its last request, so that facts about use are few.
const USE_HYSTERESIS: Duration = Duration::from_secs(10);

/// Shortest time between two messages about the same demand.
pub(crate) const TELL_AGAIN: Duration = Duration::from_secs(1);

/// What a request is, for its gate.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Whether it takes one of the slots and counts as use.
    pub works: bool,
    /// Requests at work at a time that the configuration sets.
    pub concurrency: Option<NonZeroU32>,
    /// Requests that may wait.
    pub queue: u32,
    /// Demands of a higher one come first.
    pub priority: i32,
    /// Whose turn it takes among those that wait.
    pub client: QueueClient,
    /// The launch with which it was lost before its answer began. It goes to a later one, alone until that one answers.
    pub lost_with: Option<Incarnation>,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GateAction {
    /// Let a waiting request go to this launch.
    Admit(Ticket, Incarnation),
    /// Tell the supervisor that requests wait.
    Want {
        /// Which server is wanted.
        server: ServerId,
        /// Since when the request waits that has waited longest.
        oldest: Uptime,
        /// The highest priority comes first.
        priority: i32,
    },
    /// Tell it that none do.
    Unwant(ServerId),
    /// Publish `ServerReleased`.
    Released {
        /// The server whose gate is closed.
        server: ServerId,
        /// The launch that the gate led to.
        incarnation: Incarnation,
        /// How many requests are still in flight.
        left: u32,
    },
    /// Publish `UseBegan`.
    UseBegan(ServerId, Incarnation),
    /// Publish `UseEnded`.
    UseEnded(ServerId, Incarnation, Uptime),
    /// Look at the next deadline again. The shell adds it.
    Rearm,
}

/// What an admitted request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmittedAs {
    /// Nothing that is scarce.
    Light,
    /// A slot.
    Work,
    /// A slot, and the only one for requests that a crash has lost.
    Replay,
}

impl Arrival {
    /// What the request takes at its gate.
    pub const fn admitted_as(&self) -> AdmittedAs {
        match (self.works, self.lost_with) {
            (false, _) => AdmittedAs::Light,
            (true, None) => AdmittedAs::Work,
            (true, Some(_)) => AdmittedAs::Replay,
        }
    }
}

/// The answer to an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// It goes to this launch at once.
    Admitted(Incarnation),
    /// It waits, and is admitted or dismissed later.
    Waits(Ticket),
    /// As many wait as may.
    QueueFull,
}

/// Every gate.
#[derive(Debug, Default)]
pub struct Gates {
    gates: BTreeMap<ServerId, ServerGate>,
    last_ticket: u64,
}

impl Gates {
    /// A request comes.
    pub fn arrive(&mut self, server: &ServerId, arrival: Arrival, now: Uptime) -> (Arrived, Vec<GateAction>) {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let gate = self.gates.entry(server.clone()).or_default();
        gate.concurrency = arrival.concurrency;
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
        gate.priority = arrival.priority;
        actions.extend(gate.demand(server, now));
        (arrived, actions)
    }

    /// A request that waits has left.
    pub fn leave(&mut self, server: &ServerId, ticket: Ticket, now: Uptime) -> Vec<GateAction> {
        let Some(gate) = self.gates.get_mut(server) else { return Vec::new() };
        gate.forget(ticket);
        gate.demand(server, now).into_iter().collect()
    }

    /// Every request that waits for a server has been answered otherwise. Gives their tickets.
    pub fn dismiss(&mut self, server: &ServerId) -> Vec<Ticket> {
        // The supervisor knows that nobody waits: it has just refused them, or given the server up.
        self.gates.get_mut(server).map(ServerGate::dismiss).unwrap_or_default()
    }

    /// A request that was admitted has ended.
    pub fn finish(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        admitted: AdmittedAs,
        now: Uptime,
    ) -> Vec<GateAction> {
        let Some(gate) = self.gates.get_mut(server) else { return Vec::new() };
        if admitted == AdmittedAs::Replay {
            gate.replay_ended(incarnation);
        }
        let released = gate.finish(incarnation, admitted != AdmittedAs::Light, now, USE_HYSTERESIS);
        let mut actions = self.step(server, now);
        actions.extend(released.then(|| GateAction::Released { server: server.clone(), incarnation, left: 0 }));
        actions
    }

    /// A launch became ready, or ready again.
    pub fn open(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<GateAction> {
        self.gates.entry(server.clone()).or_default().open(incarnation);
        self.step(server, now)
    }

    /// A launch is not ready for a while.
    pub fn pause(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<GateAction> {
        let gate = self.gates.entry(server.clone()).or_default();
        gate.pause(incarnation);
        gate.demand(server, now).into_iter().collect()
    }

    /// A launch is stopped, has failed or is over: nothing goes to it any more.
    pub fn close(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<GateAction> {
        let Some(gate) = self.gates.get_mut(server) else { return Vec::new() };
        let released = gate.close(incarnation);
        let mut actions: Vec<GateAction> =
            gate.use_ended().map(|at| GateAction::UseEnded(server.clone(), incarnation, at)).into_iter().collect();
        // Its process is going; what is in flight ends with it.
        actions.extend(released.map(|left| GateAction::Released { server: server.clone(), incarnation, left }));
        // Those that waited for a slot wait for the next launch now.
        actions.extend(gate.demand(server, now));
        actions
    }

    /// A request's answer has begun: whether it ends its launch is known, and the next one that a crash has lost may go.
    pub fn answer_began(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<GateAction> {
        if let Some(gate) = self.gates.get_mut(server) {
            gate.replay_ended(incarnation);
        }
        self.step(server, now)
    }

    /// The number of slots of a launch.
    pub fn set_slots(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        slots: NonZeroU32,
        now: Uptime,
    ) -> Vec<GateAction> {
        if let Some(gate) = self.gates.get_mut(server) {
            gate.set_slots(incarnation, slots);
        }
        self.step(server, now)
    }

    /// The supervisor asks that nothing goes to a launch any more. `Err`: with how many requests are in flight.
    pub fn release(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        drain: Duration,
        now: Uptime,
    ) -> Result<Vec<GateAction>, u32> {
        let gate = self.gates.entry(server.clone()).or_default();
        let is_idle = gate.release(incarnation, drain, now)?;
        let released = (is_idle && !drain.is_zero()).then(|| GateAction::Released {
            server: server.clone(),
            incarnation,
            left: 0,
        });
        Ok(released.into_iter().chain(gate.demand(server, now)).collect())
    }

    /// The launch is not stopped after all.
    pub fn reopen(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<GateAction> {
        if let Some(gate) = self.gates.get_mut(server) {
            gate.reopen(incarnation);
        }
        self.step(server, now)
    }

    /// A server is configured no more.
    pub fn remove(&mut self, server: &ServerId) -> Vec<Ticket> {
        self.gates.remove(server).map(|mut gate| gate.dismiss()).unwrap_or_default()
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
        self.gates.values().filter_map(ServerGate::next_deadline).min()
    }

    /// The time that `next_deadline` named has come.
    pub fn on_deadline(&mut self, now: Uptime) -> Vec<GateAction> {
        let mut actions = Vec::new();
        for (server, gate) in &mut self.gates {
            if let Some((incarnation, left)) = gate.drained(now) {
                actions.push(GateAction::Released { server: server.clone(), incarnation, left });
            }
            if let Some((incarnation, at)) = gate.idle_since(now) {
                actions.push(GateAction::UseEnded(server.clone(), incarnation, at));
            }
            actions.extend(gate.demand(server, now));
        }
        actions
    }

    /// Lets go who may, and tells what changed about the demand.
    fn step(&mut self, server: &ServerId, now: Uptime) -> Vec<GateAction> {
        let Some(gate) = self.gates.get_mut(server) else { return Vec::new() };
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
mod tests;
