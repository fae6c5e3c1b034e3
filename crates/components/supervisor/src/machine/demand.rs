//! Servers for which requests wait, and servers that nobody uses.

use std::time::Duration;

use llama_warden_events::{Incarnation, RefusalReason, Refused, ServerId, StopReason, Uptime};

use super::SupervisorMachine;
use crate::action::{Actions, SupervisorAction};
use crate::policy::RoutingPolicy;
use crate::server_state::{Hold, ServerState, StartReason};

/// The requests that wait for one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Demand {
    /// Since when the oldest waits.
    pub(super) oldest: Uptime,
    pub(super) priority: i32,
}

impl SupervisorMachine {
    /// What requests may do from now on.
    pub fn set_routing(&mut self, routing: RoutingPolicy) {
        self.limits.routing = routing;
    }

    /// Why requests may not have a server launched, if they may not.
    pub(super) fn demand_refusal(&self, server: &ServerId, now: Uptime) -> Option<Refused> {
        let state = self.servers.get(server)?;
        if state.is_stopped_by_user() {
            let detail = format!("{server} was stopped by hand; `llama-warden start {server}` starts it");
            return Some(Refused::new(RefusalReason::StoppedByHand, detail));
        }
        if let Some(refused) = state.lacks_room(now) {
            return Some(refused.clone());
        }
        if state.is_given_up(now) {
            let detail = format!("{server} failed and is not started again by requests: {}", state.failure_text());
            return Some(Refused::new(RefusalReason::GivenUp, detail));
        }
        if !self.limits.routing.on_demand && !state.is_up() && state.next_deadline().is_none() {
            let detail = format!("{server} does not run, and router.on-demand is false");
            return Some(Refused::new(RefusalReason::NotOnDemand, detail));
        }
        None
    }

    pub(super) fn want(&mut self, server: ServerId, demand: Demand) {
        self.demands.insert(server, demand);
    }

    pub(super) fn unwant(&mut self, server: &ServerId, actions: &mut Actions) {
        self.demands.remove(server);
        if let Some(state) = self.servers.get_mut(server) {
            state.unwant(actions);
        }
    }

    /// Takes the answer to [`SupervisorAction::Release`].
    pub fn on_release_answered(
        &mut self,
        server: &ServerId,
        (incarnation, drain): (Incarnation, Duration),
        answer: Result<(), &Refused>,
        now: Uptime,
    ) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        self.now = now;
        if let Some(state) = self.servers.get_mut(server) {
            state.on_release_answered((incarnation, drain), answer, now, &mut actions);
        }
        self.reconcile(None, &mut actions);
        actions
    }

    /// Requests launches of the servers that requests wait for, as far as that is up to them.
    pub(super) fn pursue_demands(&mut self, actions: &mut Actions) {
        if self.shutdown.is_some() {
            return;
        }
        let (removed, on_demand, now) = (&self.removed, self.limits.routing.on_demand, self.now);
        for (server, state) in &mut self.servers {
            if on_demand && self.demands.contains_key(server) && !removed.contains(server) {
                state.want(now, actions);
            }
        }
    }

    /// Closes the gates of servers that nobody has used for their `ttl`, and stops those whose gate is closed.
    pub(super) fn stop_idle(&mut self, actions: &mut Actions) {
        if !self.limits.routing.is_on {
            return;
        }
        let stop = self.stop_before(StopReason::Idle);
        for (server, state) in &mut self.servers {
            let is_wanted = self.demands.contains_key(server);
            if state.idle_stop_at().is_some_and(|at| at <= self.now) && !is_wanted {
                state.close(Hold::Idle, actions);
            }
            if state.hold() == Some(Hold::Idle) && state.is_released() {
                if is_wanted { state.reopen(actions) } else { state.stop(None, stop, actions) }
            }
        }
    }

    pub(super) fn next_idle_stop(&self) -> Option<Uptime> {
        let is_on = self.limits.routing.is_on;
        let idle = self.servers.iter().filter(|(server, _)| is_on && !self.demands.contains_key(*server));
        idle.filter_map(|(_, state)| state.idle_stop_at()).min()
    }

    pub(super) fn next_room_look(&self) -> Option<Uptime> {
        let on_demand = self.limits.routing.on_demand && self.shutdown.is_none();
        let wanted = self.demands.keys().filter(|server| on_demand && !self.removed.contains(*server));
        wanted.filter_map(|server| self.servers.get(server)?.room_look_at()).min()
    }

    /// Whether a switch need not wait for it any more. A launch for requests, which may wait for room, is none of the switch.
    pub(super) fn has_arrived(state: &ServerState) -> bool {
        let is_on_its_way = |reason| reason != StartReason::Demand;
        !state.loading_for().is_some_and(is_on_its_way) && !state.due_launch().is_some_and(is_on_its_way)
    }

    /// Servers of which a launch is under way or due, and not about to be stopped for good.
    pub fn up(&self) -> impl Iterator<Item = &ServerId> {
        self.servers.iter().filter(|(_, state)| state.is_up()).map(|(server, _)| server)
    }

    /// Servers that a user stopped and that nobody has requested since.
    pub fn stopped_by_user(&self) -> impl Iterator<Item = &ServerId> {
        self.servers.iter().filter(|(_, state)| state.is_stopped_by_user()).map(|(server, _)| server)
    }

    /// Servers that a person or a request asked for.
    pub fn asked_for(&self) -> impl Iterator<Item = &ServerId> {
        self.servers.iter().filter(|(_, state)| state.is_asked_for()).map(|(server, _)| server)
    }

    /// Servers that run because requests asked for them.
    pub fn on_demand(&self) -> impl Iterator<Item = &ServerId> {
        self.servers.iter().filter(|(_, state)| state.is_on_demand()).map(|(server, _)| server)
    }

    /// Servers that are down until somebody wants them.
    pub fn unloaded(&self) -> impl Iterator<Item = &ServerId> {
        self.servers.iter().filter(|(_, state)| state.is_unloaded()).map(|(server, _)| server)
    }
}
