//! Room for launches: each launch that is due is sent, waits, is left out, or evicts others.
//!
//! Invariants:
//!
//! * No launch goes beyond the rules of `[router]`, whoever asked for it; only a process that is taken over may.
//! * Only a launch for which somebody waits evicts, and it evicts no server that is kept, loads, has just become ready, or has requests
//!   that have waited longer.
//! * A victim is stopped once the router has said that nothing is in flight there, and every victim of the eviction was released.
//! * A server is the victim of one eviction at a time; evictions with different victims go on side by side.

use std::collections::BTreeSet;

use llama_warden_config::AdmissionPolicy;
use llama_warden_events::{Event, EvictionCause, RefusalReason, Refused, ServerId, StopReason, Uptime};
use llama_warden_memory::Reading;
use llama_warden_room::{AdmissionDecision, AdmissionPass, EvictionCandidate, MemoryFit, choose};

use super::SupervisorMachine;
use super::reconcile::RESTARTS_AT_ONCE;
use crate::action::{Actions, SupervisorAction};
use crate::server_state::{Hold, MemoryRetry, ServerState, StartReason};

/// An eviction under way.
#[derive(Debug)]
pub(super) struct Eviction {
    victims: BTreeSet<ServerId>,
    because: EvictionCause,
    need: Need,
    /// Every victim was released, and is being stopped.
    is_decided: bool,
}

/// What an eviction needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// All of its victims: when one of them is in use, others are chosen.
    All,
    /// As many of its victims as are idle.
    Some,
}

/// What becomes of a launch that is due.
enum RoomOutcome {
    Free,
    Waits,
    /// Not even the end of every server that may be stopped would do.
    Never,
}

/// Which servers may be victims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EvictionReach {
    /// Idle ones.
    Idle,
    /// Busy ones too, since the requests for the other server have waited long enough.
    Busy,
    /// Whatever can be stopped at some time.
    Everything,
}

impl SupervisorMachine {
    /// Launches what is due: what people asked for in the order of the requests, then what requests wait for, by priority and the
    /// oldest wait.
    pub(super) fn admit_launches(&mut self, reading: Option<&Reading>, actions: &mut Actions) {
        for (server, state) in &self.servers {
            if state.due_launch().is_some() && !self.queue.contains(server) {
                self.queue.push_back(server.clone());
            }
        }
        if !self.stopping_first.is_empty() || self.shutdown.is_some() {
            return;
        }
        let mut loading: Vec<StartReason> = self.servers.values().filter_map(ServerState::loading_for).collect();
        let starts = self.limits.starts.unwrap_or(usize::MAX);
        let restarts = self.limits.starts.unwrap_or(RESTARTS_AT_ONCE);
        let stages = self.servers.iter();
        let stages = stages.filter_map(|(server, state)| Some((server.clone(), state.reservation_stage()?))).collect();
        let leaving = self.evictions.values().flat_map(|eviction| &eviction.victims);
        let mut pass = self.admission.begin_pass(reading, self.now, stages, leaving);
        let mut due: Vec<ServerId> = std::mem::take(&mut self.queue).into();
        due.sort_by_key(|server| match self.demands.get(server) {
            Some(demand) if self.is_for_requests(server) => (1, -i64::from(demand.priority), demand.oldest),
            _ => (0, 0, Uptime::default()),
        });
        self.room_check_at = None;
        // Those that must wait go back to the queue in their order; those whose launch is no longer due are dropped.
        for server in due {
            let Some(reason) = self.servers.get(&server).and_then(ServerState::due_launch) else { continue };
            // Requested launches count against `starts` alone, so that no storm of restarts keeps a person waiting.
            let restarting = loading.iter().filter(|reason| **reason == StartReason::RestartPolicy).count();
            let is_within_limits =
                loading.len() < starts && (reason != StartReason::RestartPolicy || restarting < restarts);
            if !is_within_limits {
                self.queue.push_back(server);
                continue;
            }
            match self.room_for(&server, reason, &mut pass, actions) {
                RoomOutcome::Free => {}
                RoomOutcome::Waits => {
                    self.queue.push_back(server);
                    continue;
                }
                RoomOutcome::Never => continue,
            }
            let waits = reason == StartReason::Demand;
            match self.admission.decide(&server, waits, &mut pass, actions) {
                AdmissionDecision::Granted { warning } => {
                    let Some(state) = self.servers.get_mut(&server) else { continue };
                    loading.push(reason);
                    actions.push(SupervisorAction::Launch { incarnation: state.launch(warning), server });
                }
                AdmissionDecision::Refused { detail } => {
                    self.refuse(&server, Refused::new(RefusalReason::NoMemory, detail), actions);
                }
                AdmissionDecision::Waiting => self.queue.push_back(server),
            }
        }
        self.admission.end_pass(&pass, actions);
    }

    fn is_for_requests(&self, server: &ServerId) -> bool {
        self.servers.get(server).and_then(ServerState::due_launch) == Some(StartReason::Demand)
    }

    fn refuse(&mut self, server: &ServerId, refused: Refused, actions: &mut Actions) {
        let input = self.backoff_input(self.now);
        if let Some(state) = self.servers.get_mut(server) {
            state.refuse(refused, input, actions);
        }
    }

    /// Whether there is room for a launch that is due, by the rules and, where requests wait for it, by its memory. Begins an eviction
    /// where that makes room.
    fn room_for(
        &mut self,
        target: &ServerId,
        reason: StartReason,
        pass: &mut AdmissionPass<'_>,
        actions: &mut Actions,
    ) -> RoomOutcome {
        if self.evictions.contains_key(target) {
            self.admission.wait_behind(target, pass);
            return RoomOutcome::Waits;
        }
        let rules = &self.limits.routing.rules;
        if let Some(cause) = rules.refuses(&self.running(target, Leaving::Counts), target) {
            if rules.refuses(&self.running(target, Leaving::IsGone), target).is_none() {
                return RoomOutcome::Waits;
            }
            return self.make_room_by_rules(target, cause, pass, actions);
        }
        if self.servers.get(target).is_some_and(|state| state.memory_retry() == MemoryRetry::Due) {
            if let Some(state) = self.servers.get_mut(target) {
                state.use_memory_retry();
            }
            let idle = self.candidates(target, EvictionReach::Idle);
            return self.begin(target, ids(idle), EvictionCause::Memory, Need::Some, actions);
        }
        if reason != StartReason::Demand {
            return RoomOutcome::Free;
        }
        match self.admission.assess(target, pass, actions) {
            None => RoomOutcome::Waits,
            Some(MemoryFit::Now | MemoryFit::Later) => RoomOutcome::Free,
            Some(MemoryFit::Never) => self.make_room_in_memory(target, pass, actions),
        }
    }

    /// The rules refuse the launch: evicts for it if somebody waits for it, else leaves it out.
    fn make_room_by_rules(
        &mut self,
        target: &ServerId,
        cause: EvictionCause,
        pass: &mut AdmissionPass<'_>,
        actions: &mut Actions,
    ) -> RoomOutcome {
        let because = self.limits.routing.rules.describe(cause);
        if !self.is_waited_for(target) {
            if let Some(state) = self.servers.get_mut(target) {
                state.skip(because, actions);
            }
            return RoomOutcome::Never;
        }
        // The memory is looked at together with the rules, so that one eviction serves both.
        if self.is_for_requests(target) && self.admission.assess(target, pass, actions).is_none() {
            return RoomOutcome::Waits;
        }
        if let Some(victims) = self.victims(target, self.reach(target), pass) {
            return self.begin(target, victims, cause, Need::All, actions);
        }
        if !self.is_ruled_out(target) {
            self.look_again(target);
            return RoomOutcome::Waits;
        }
        let detail = format!("{because}, and nothing that runs may be stopped for it");
        self.refuse(target, Refused::new(RefusalReason::NoRoom, detail), actions);
        RoomOutcome::Never
    }

    /// The memory does not suffice: evicts for a launch that requests wait for. With nothing left to evict, admission decides.
    fn make_room_in_memory(
        &mut self,
        target: &ServerId,
        pass: &mut AdmissionPass<'_>,
        actions: &mut Actions,
    ) -> RoomOutcome {
        if let Some(victims) = self.victims(target, self.reach(target), pass) {
            return self.begin(target, victims, EvictionCause::Memory, Need::All, actions);
        }
        if self.victims(target, EvictionReach::Everything, pass).is_some() {
            self.look_again(target);
            self.admission.wait_for_room(target, pass, actions);
            return RoomOutcome::Waits;
        }
        // It does not fit whatever ends, so far as is known. A launch that is only warned of gets all the room that there is.
        if self.limits.memory == AdmissionPolicy::Warn {
            let idle = self.candidates(target, EvictionReach::Idle);
            return self.begin(target, ids(idle), EvictionCause::Memory, Need::Some, actions);
        }
        RoomOutcome::Free
    }

    /// The servers that run or are about to, without `target` itself.
    fn running(&self, target: &ServerId, leaving: Leaving) -> BTreeSet<ServerId> {
        let is_leaving = |server: &ServerId, state: &ServerState| {
            let is_ending = state.reservation_stage().is_some_and(|stage| stage.is_ending());
            is_ending || self.evictions.values().any(|eviction| eviction.victims.contains(server))
        };
        let runs = |(server, state): &(&ServerId, &ServerState)| {
            !state.is_down() && (leaving == Leaving::Counts || !is_leaving(server, state))
        };
        let running = self.servers.iter().filter(runs).map(|(server, _)| server);
        // What others have made room for is theirs.
        running.chain(self.evictions.keys()).filter(|server| *server != target).cloned().collect()
    }

    /// Whether requests or a person wait for a launch.
    fn is_waited_for(&self, server: &ServerId) -> bool {
        self.demands.contains_key(server) || self.servers.get(server).is_some_and(ServerState::is_awaited)
    }

    /// Since when the launch is waited for: that of a person is waited for as long as it takes to reach busy servers.
    fn waits_since(&self, target: &ServerId) -> Uptime {
        self.demands.get(target).map_or_else(Uptime::default, |demand| demand.oldest)
    }

    fn reach(&self, target: &ServerId) -> EvictionReach {
        let waits = self.now.since(self.waits_since(target));
        if waits >= self.limits.routing.evict_busy_after { EvictionReach::Busy } else { EvictionReach::Idle }
    }

    /// The servers that may be stopped for `target` now.
    fn candidates(&self, target: &ServerId, reach: EvictionReach) -> Vec<EvictionCandidate> {
        let waits_since = self.waits_since(target);
        let may_go = |(server, state): &(&ServerId, &ServerState)| {
            let is_victim = || self.evictions.values().any(|eviction| eviction.victims.contains(*server));
            if state.policy().is_kept || state.is_down() || !self.limits.routing.rules.may_evict(server, target) {
                return false;
            }
            if reach == EvictionReach::Everything {
                return true;
            }
            state.is_settled()
                && !is_victim()
                && self.free_at(server, state, waits_since) <= self.now
                && (reach == EvictionReach::Busy || state.busy_until().is_none_or(|until| until <= self.now))
        };
        let candidate = |(server, state): (&ServerId, &ServerState)| EvictionCandidate {
            server: server.clone(),
            cost: state.eviction_cost(self.admission.weights(server), self.now),
            idle: state.idle_since().map(|since| self.now.since(since)).unwrap_or_default(),
        };
        self.servers.iter().filter(may_go).map(candidate).collect()
    }

    /// When a server may be evicted for requests that have waited since `waits_since`, by what is known now.
    fn free_at(&self, server: &ServerId, state: &ServerState, waits_since: Uptime) -> Uptime {
        let own = self.demands.get(server).map(|demand| demand.oldest);
        let stays = state.stays_until(own);
        match own {
            Some(own) if own < waits_since => stays.max(state.patience_ends(own)),
            _ => stays,
        }
    }

    /// The servers whose end makes room, by the rules and by the memory.
    fn victims(&self, target: &ServerId, reach: EvictionReach, pass: &AdmissionPass<'_>) -> Option<BTreeSet<ServerId>> {
        let running = self.running(target, Leaving::IsGone);
        choose(self.candidates(target, reach), |victims| {
            let staying = running.difference(victims).cloned().collect();
            self.limits.routing.rules.refuses(&staying, target).is_none()
                && (!self.is_for_requests(target) || self.admission.fits_without(target, victims, pass))
        })
    }

    /// Whether the rules refuse the launch whatever ends that may be stopped for it at some time.
    fn is_ruled_out(&self, target: &ServerId) -> bool {
        let rules = &self.limits.routing.rules;
        let stays = |server: &ServerId| {
            let is_kept = self.servers.get(server).is_some_and(|state| state.policy().is_kept);
            is_kept || !rules.may_evict(server, target)
        };
        rules.refuses(&self.running(target, Leaving::IsGone).into_iter().filter(stays).collect(), target).is_some()
    }

    /// Sets the time at which a launch that waits may find other victims.
    fn look_again(&mut self, target: &ServerId) {
        let waits_since = self.waits_since(target);
        let servers = self.servers.iter().filter(|(_, state)| state.is_settled());
        let times = servers.flat_map(|(server, state)| {
            [Some(self.free_at(server, state, waits_since)), state.busy_until()].into_iter().flatten()
        });
        let busy_after = waits_since + self.limits.routing.evict_busy_after;
        let next = times.chain([busy_after]).filter(|at| *at > self.now).min();
        self.room_check_at = [self.room_check_at, next].into_iter().flatten().min();
    }

    /// Begins to close the gates of the victims. Without any there is all the room that there will be.
    fn begin(
        &mut self,
        target: &ServerId,
        victims: BTreeSet<ServerId>,
        because: EvictionCause,
        need: Need,
        actions: &mut Actions,
    ) -> RoomOutcome {
        if victims.is_empty() {
            return RoomOutcome::Free;
        }
        let hold = match self.reach(target) {
            EvictionReach::Busy if need == Need::All => Hold::EvictBusy,
            _ => Hold::EvictIdle,
        };
        for victim in &victims {
            if let Some(state) = self.servers.get_mut(victim) {
                state.close(hold, actions);
            }
        }
        self.evictions.insert(target.clone(), Eviction { victims, because, need, is_decided: false });
        RoomOutcome::Waits
    }

    /// Takes the evictions under way further: ends those that nobody waits for or that a busy victim prevents, and stops the victims of
    /// those whose victims were all released.
    pub(super) fn advance_evictions(&mut self, actions: &mut Actions) {
        for (target, mut eviction) in std::mem::take(&mut self.evictions) {
            let is_due = self.servers.get(&target).is_some_and(|state| state.due_launch().is_some());
            if eviction.is_decided {
                // The launches that wait behind it find the room once the victims are gone.
                eviction.victims.retain(|victim| self.servers.get(victim).is_some_and(|state| !state.is_down()));
                if is_due && !eviction.victims.is_empty() {
                    self.evictions.insert(target, eviction);
                }
                continue;
            }
            let is_wanted = is_due && self.is_waited_for(&target) && self.shutdown.is_none();
            // One that is being stopped for another reason makes room as well.
            let (held, gone): (BTreeSet<_>, BTreeSet<_>) = eviction
                .victims
                .into_iter()
                .partition(|victim| self.servers.get(victim).is_some_and(ServerState::is_victim));
            let is_ready_again = |victim: &ServerId| self.servers.get(victim).is_some_and(ServerState::is_settled);
            let was_in_use = eviction.need == Need::All && gone.iter().any(is_ready_again);
            eviction.victims = held;
            if !is_wanted || was_in_use {
                for victim in &eviction.victims {
                    if let Some(state) = self.servers.get_mut(victim) {
                        state.reopen(actions);
                    }
                }
                self.admission.mark_dirty();
                continue;
            }
            if eviction.victims.is_empty() {
                self.admission.mark_dirty();
                continue;
            }
            if eviction.victims.iter().all(|victim| self.servers.get(victim).is_some_and(ServerState::is_released)) {
                self.stop_victims(&target, &eviction, actions);
                eviction.is_decided = true;
            }
            self.evictions.insert(target, eviction);
        }
    }

    fn stop_victims(&mut self, target: &ServerId, eviction: &Eviction, actions: &mut Actions) {
        let victims = eviction.victims.iter().cloned().collect();
        let planned = Event::EvictionPlanned { victims, because: eviction.because };
        actions.push(SupervisorAction::publish_server(target.clone(), planned));
        let stop = self.stop_before(StopReason::Evicted);
        for victim in &eviction.victims {
            if let Some(state) = self.servers.get_mut(victim) {
                state.stop(None, stop, actions);
            }
        }
    }
}

/// Whether servers that are being stopped count among those that run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    Counts,
    IsGone,
}

fn ids(candidates: Vec<EvictionCandidate>) -> BTreeSet<ServerId> {
    candidates.into_iter().map(|candidate| candidate.server).collect()
}
