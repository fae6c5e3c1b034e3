//! The gates: one per server, through which requests go to one launch of it. Pure: the time is an argument.
//!
//! Invariants: a request is admitted only through an open gate of a ready launch; each waiter is answered once, by an admission, a
//! refusal or its own leaving; at most `concurrency` requests work at a time, light ones apart; demand is told by its edges.

mod gate;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use llama_warden_events::{Incarnation, ServerId, Uptime};

use gate::ServerGate;
pub(crate) use gate::{GateAdmission, Standing};

/// A request, from its arrival at a gate to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// How long a server counts as used after its last request, so that facts about use are few.
const USE_HYSTERESIS: Duration = Duration::from_secs(10);

/// What a request is, for its gate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// Whether it takes one of the slots and counts as use.
    pub(crate) works: bool,
    /// Requests at work at a time that the configuration sets.
    pub(crate) concurrency: Option<NonZeroU32>,
    /// Requests that may wait.
    pub(crate) queue: u32,
    pub(crate) priority: i32,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Let a waiting request go to this launch.
    Admit(Ticket, Incarnation),
    /// Tell the supervisor that requests wait.
    Want { server: ServerId, oldest: Uptime, priority: i32 },
    /// Tell it that none do.
    Unwant(ServerId),
    /// Publish `ServerReleased`.
    Released { server: ServerId, incarnation: Incarnation, left: u32 },
    /// Publish `UseBegan`.
    UseBegan(ServerId, Incarnation),
    /// Publish `UseEnded`.
    UseEnded(ServerId, Incarnation, Uptime),
}

/// The answer to an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrived {
    /// It goes to this launch at once.
    Admitted(Incarnation),
    Waits(Ticket),
    /// As many wait as may.
    QueueFull,
}

/// Every gate.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    gates: BTreeMap<ServerId, ServerGate>,
    last_ticket: u64,
}

impl Gates {
    /// A request comes.
    pub(crate) fn arrive(&mut self, server: &ServerId, arrival: Arrival, now: Uptime) -> (Arrived, Vec<Action>) {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        let gate = self.gates.entry(server.clone()).or_default();
        gate.concurrency = arrival.concurrency;
        let mut actions = Vec::new();
        let arrived = match gate.admit(arrival.works) {
            Some(GateAdmission { incarnation, begins_use }) => {
                actions.extend(begins_use.then(|| Action::UseBegan(server.clone(), incarnation)));
                Arrived::Admitted(incarnation)
            }
            None if gate.waiting() >= arrival.queue as usize => Arrived::QueueFull,
            None => {
                gate.wait(ticket, arrival.works, now);
                Arrived::Waits(ticket)
            }
        };
        gate.priority = arrival.priority;
        actions.extend(gate.demand(server));
        (arrived, actions)
    }

    /// A request that waits has left.
    pub(crate) fn leave(&mut self, server: &ServerId, ticket: Ticket) -> Vec<Action> {
        let Some(gate) = self.gates.get_mut(server) else { return Vec::new() };
        gate.forget(ticket);
        gate.demand(server).into_iter().collect()
    }

    /// Every request that waits for a server has been answered otherwise. Gives their tickets.
    pub(crate) fn dismiss(&mut self, server: &ServerId) -> Vec<Ticket> {
        // The supervisor knows that nobody waits: it has just refused them, or given the server up.
        self.gates.get_mut(server).map(ServerGate::dismiss).unwrap_or_default()
    }

    /// A request that was admitted has ended.
    pub(crate) fn finish(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        works: bool,
        now: Uptime,
    ) -> Vec<Action> {
        let Some(gate) = self.gates.get_mut(server) else { return Vec::new() };
        let released = gate.finish(incarnation, works, now, USE_HYSTERESIS);
        let mut actions = self.step(server);
        actions.extend(released.then(|| Action::Released { server: server.clone(), incarnation, left: 0 }));
        actions
    }

    /// A launch became ready, or ready again.
    pub(crate) fn open(&mut self, server: &ServerId, incarnation: Incarnation) -> Vec<Action> {
        self.gates.entry(server.clone()).or_default().open(incarnation);
        self.step(server)
    }

    /// A launch is not ready for a while.
    pub(crate) fn pause(&mut self, server: &ServerId, incarnation: Incarnation) {
        self.gates.entry(server.clone()).or_default().pause(incarnation);
    }

    /// A launch is stopped, has failed or is over: nothing goes to it any more.
    pub(crate) fn close(&mut self, server: &ServerId, incarnation: Incarnation) -> Vec<Action> {
        let Some(gate) = self.gates.get_mut(server) else { return Vec::new() };
        let released = gate.close(incarnation);
        let mut actions: Vec<Action> = gate
            .use_ended(incarnation)
            .map(|at| Action::UseEnded(server.clone(), incarnation, at))
            .into_iter()
            .collect();
        // Its process is going; what is in flight ends with it.
        actions.extend(released.map(|left| Action::Released { server: server.clone(), incarnation, left }));
        actions
    }

    /// The number of slots of a launch.
    pub(crate) fn set_slots(&mut self, server: &ServerId, incarnation: Incarnation, slots: NonZeroU32) -> Vec<Action> {
        if let Some(gate) = self.gates.get_mut(server) {
            gate.set_slots(incarnation, slots);
        }
        self.step(server)
    }

    /// The supervisor asks that nothing goes to a launch any more. `Err`: with how many requests are in flight.
    pub(crate) fn release(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        drain: Duration,
        now: Uptime,
    ) -> Result<Vec<Action>, u32> {
        let Some(gate) = self.gates.get_mut(server) else {
            let released = Action::Released { server: server.clone(), incarnation, left: 0 };
            return Ok(if drain.is_zero() { Vec::new() } else { vec![released] });
        };
        let is_idle = gate.release(incarnation, drain, now)?;
        let released =
            (is_idle && !drain.is_zero()).then(|| Action::Released { server: server.clone(), incarnation, left: 0 });
        Ok(released.into_iter().collect())
    }

    /// The launch is not stopped after all.
    pub(crate) fn reopen(&mut self, server: &ServerId, incarnation: Incarnation) -> Vec<Action> {
        if let Some(gate) = self.gates.get_mut(server) {
            gate.reopen(incarnation);
        }
        self.step(server)
    }

    /// A server is configured no more.
    pub(crate) fn remove(&mut self, server: &ServerId) -> Vec<Ticket> {
        self.gates.remove(server).map(|mut gate| gate.dismiss()).unwrap_or_default()
    }

    /// How a server stands.
    pub(crate) fn standing(&self, server: &ServerId) -> Standing {
        self.gates.get(server).map(ServerGate::standing).unwrap_or_default()
    }

    pub(crate) fn next_deadline(&self) -> Option<Uptime> {
        self.gates.values().filter_map(ServerGate::next_deadline).min()
    }

    pub(crate) fn on_deadline(&mut self, now: Uptime) -> Vec<Action> {
        let mut actions = Vec::new();
        for (server, gate) in &mut self.gates {
            if let Some((incarnation, left)) = gate.drained(now) {
                actions.push(Action::Released { server: server.clone(), incarnation, left });
            }
            if let Some((incarnation, at)) = gate.idle_since(now) {
                actions.push(Action::UseEnded(server.clone(), incarnation, at));
            }
        }
        actions
    }

    /// Lets go who may, and tells what changed about the demand.
    fn step(&mut self, server: &ServerId) -> Vec<Action> {
        let Some(gate) = self.gates.get_mut(server) else { return Vec::new() };
        let mut actions = Vec::new();
        while let Some((ticket, admission)) = gate.next_admission() {
            actions.extend(admission.begins_use.then(|| Action::UseBegan(server.clone(), admission.incarnation)));
            actions.push(Action::Admit(ticket, admission.incarnation));
        }
        actions.extend(gate.demand(server));
        actions
    }
}

#[cfg(test)]
mod tests;
