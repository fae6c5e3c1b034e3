//! The gates: one per server, through which requests go to one launch of it. Pure: the time is an argument.
//!
//! Invariants: a request is admitted only through an open gate of a ready launch; each waiter is answered once, by an admission, a
//! refusal or its own leaving; at most `concurrency` requests work at a time, light ones apart; demand is told by its edges.

mod gate;
mod queue;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use llama_warden_events::{Incarnation, ServerId, Uptime};

use gate::ServerGate;
pub(crate) use gate::{GateAdmission, Standing};
pub(crate) use queue::QueueClient;

/// A request, from its arrival at a gate to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// How long a server counts as used after its last request, so that facts about use are few.
const USE_HYSTERESIS: Duration = Duration::from_secs(10);

/// Shortest time between two messages about the same demand.
const TELL_AGAIN: Duration = Duration::from_secs(1);

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
    /// Whose turn it takes among those that wait.
    pub(crate) client: QueueClient,
    /// The launch with which it was lost before its answer began. It goes to a later one, alone until that one answers.
    pub(crate) lost_with: Option<Incarnation>,
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
    /// Look at the next deadline again. The shell adds it.
    Rearm,
}

/// What an admitted request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdmittedAs {
    /// Nothing that is scarce.
    Light,
    /// A slot.
    Work,
    /// A slot, and the only one for requests that a crash has lost.
    Replay,
}

impl Arrival {
    pub(crate) const fn admitted_as(&self) -> AdmittedAs {
        match (self.works, self.lost_with) {
            (false, _) => AdmittedAs::Light,
            (true, None) => AdmittedAs::Work,
            (true, Some(_)) => AdmittedAs::Replay,
        }
    }
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
        let arrived = match gate.arrive(&arrival) {
            Some(GateAdmission { incarnation, begins_use }) => {
                actions.extend(begins_use.then(|| Action::UseBegan(server.clone(), incarnation)));
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
    pub(crate) fn leave(&mut self, server: &ServerId, ticket: Ticket, now: Uptime) -> Vec<Action> {
        let Some(gate) = self.gates.get_mut(server) else { return Vec::new() };
        gate.forget(ticket);
        gate.demand(server, now).into_iter().collect()
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
        admitted: AdmittedAs,
        now: Uptime,
    ) -> Vec<Action> {
        let Some(gate) = self.gates.get_mut(server) else { return Vec::new() };
        if admitted == AdmittedAs::Replay {
            gate.replay_ended(incarnation);
        }
        let released = gate.finish(incarnation, admitted != AdmittedAs::Light, now, USE_HYSTERESIS);
        let mut actions = self.step(server, now);
        actions.extend(released.then(|| Action::Released { server: server.clone(), incarnation, left: 0 }));
        actions
    }

    /// A launch became ready, or ready again.
    pub(crate) fn open(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<Action> {
        self.gates.entry(server.clone()).or_default().open(incarnation);
        self.step(server, now)
    }

    /// A launch is not ready for a while.
    pub(crate) fn pause(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<Action> {
        let gate = self.gates.entry(server.clone()).or_default();
        gate.pause(incarnation);
        gate.demand(server, now).into_iter().collect()
    }

    /// A launch is stopped, has failed or is over: nothing goes to it any more.
    pub(crate) fn close(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<Action> {
        let Some(gate) = self.gates.get_mut(server) else { return Vec::new() };
        let released = gate.close(incarnation);
        let mut actions: Vec<Action> =
            gate.use_ended().map(|at| Action::UseEnded(server.clone(), incarnation, at)).into_iter().collect();
        // Its process is going; what is in flight ends with it.
        actions.extend(released.map(|left| Action::Released { server: server.clone(), incarnation, left }));
        // Those that waited for a slot wait for the next launch now.
        actions.extend(gate.demand(server, now));
        actions
    }

    /// A request's answer has begun: whether it ends its launch is known, and the next one that a crash has lost may go.
    pub(crate) fn answer_began(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<Action> {
        if let Some(gate) = self.gates.get_mut(server) {
            gate.replay_ended(incarnation);
        }
        self.step(server, now)
    }

    /// The number of slots of a launch.
    pub(crate) fn set_slots(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        slots: NonZeroU32,
        now: Uptime,
    ) -> Vec<Action> {
        if let Some(gate) = self.gates.get_mut(server) {
            gate.set_slots(incarnation, slots);
        }
        self.step(server, now)
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
        Ok(released.into_iter().chain(gate.demand(server, now)).collect())
    }

    /// The launch is not stopped after all.
    pub(crate) fn reopen(&mut self, server: &ServerId, incarnation: Incarnation, now: Uptime) -> Vec<Action> {
        if let Some(gate) = self.gates.get_mut(server) {
            gate.reopen(incarnation);
        }
        self.step(server, now)
    }

    /// A server is configured no more.
    pub(crate) fn remove(&mut self, server: &ServerId) -> Vec<Ticket> {
        self.gates.remove(server).map(|mut gate| gate.dismiss()).unwrap_or_default()
    }

    /// Whether a launch of the server takes requests, so that only a slot is waited for.
    pub(crate) fn is_open(&self, server: &ServerId) -> bool {
        self.gates.get(server).is_some_and(ServerGate::is_open)
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
            actions.extend(gate.demand(server, now));
        }
        actions
    }

    /// Lets go who may, and tells what changed about the demand.
    fn step(&mut self, server: &ServerId, now: Uptime) -> Vec<Action> {
        let Some(gate) = self.gates.get_mut(server) else { return Vec::new() };
        let mut actions = Vec::new();
        while let Some((ticket, admission)) = gate.next_admission() {
            actions.extend(admission.begins_use.then(|| Action::UseBegan(server.clone(), admission.incarnation)));
            actions.push(Action::Admit(ticket, admission.incarnation));
        }
        actions.extend(gate.demand(server, now));
        actions
    }
}

#[cfg(test)]
mod tests;
