//! One pass over all launches that are due, in the order of the requests.

use std::collections::{BTreeMap, BTreeSet};

use llama_warden_config::AdmissionPolicy;
use llama_warden_events::{Event, ServerId, Uptime};
use llama_warden_memory::{MemoryRequirement, Reading};

use super::{
    Admission, AdmissionAction, AdmissionDecision, AdmissionRecord, AdmissionState, Estimate, GPU_RELEASE, RECHECK,
    ReadingState, launch_released,
};
use crate::budget::{MemoryAmount, MemoryBudget, MemoryFit, ReservationStage};

/// The state of one pass.
#[derive(Debug, Default)]
pub struct AdmissionPass<'r> {
    reading: Option<&'r Reading>,
    now: Uptime,
    /// The progress of every launch that was granted.
    pub(super) stages: BTreeMap<ServerId, ReservationStage>,
    /// The memory that launches earlier in this pass wait for.
    queued_before: MemoryAmount,
    /// Whether a launch cannot be decided without a reading.
    needs_reading: bool,
    /// Whether an earlier launch still waits for its estimate.
    is_blocked: bool,
}

impl Admission {
    /// Begins a pass. `stages` holds the progress of every server that has a launch; those that are `leaving` count as being stopped.
    pub fn begin_pass<'r, 'l>(
        &self,
        reading: Option<&'r Reading>,
        now: Uptime,
        mut stages: BTreeMap<ServerId, ReservationStage>,
        leaving: impl IntoIterator<Item = &'l ServerId>,
    ) -> AdmissionPass<'r> {
        for server in leaving {
            // It goes on until its requests have ended, and then makes room.
            stages.entry(server.clone()).and_modify(|stage| *stage = ReservationStage::Stopping);
        }
        AdmissionPass { reading, now, stages, ..AdmissionPass::default() }
    }

    /// Decides about a launch that is due. One that `waits` is held until the servers that are stopping are gone, whatever the policy.
    pub fn decide<A: From<AdmissionAction>>(
        &mut self,
        server: &ServerId,
        waits: bool,
        pass: &mut AdmissionPass<'_>,
        actions: &mut Vec<A>,
    ) -> AdmissionDecision {
        if self.policy == AdmissionPolicy::Off {
            return AdmissionDecision::Granted { warning: None };
        }
        let Some((state, requirement)) = self.estimated(server, pass, actions) else {
            return AdmissionDecision::Waiting;
        };
        let is_held = state == AdmissionState::Held;
        if pass.is_blocked {
            return AdmissionDecision::Waiting;
        }
        // Without an estimate the model's file cannot be read, and the failure of the launch explains that better than a
        // refusal would.
        let Some(requirement) = requirement else { return self.grant(server, pass, None, actions) };
        let Some(reading) = pass.reading else {
            // A held launch was decided by an earlier reading; only a change since then deserves another.
            pass.needs_reading |= self.is_dirty || !is_held;
            return AdmissionDecision::Waiting;
        };
        let reservations = self.reservations(pass, reading);
        let budget = MemoryBudget::compute(reading, &reservations);
        let fit = budget.fit(&requirement, pass.queued_before);
        // A reading of GPUs just after a server went down may not show yet what it freed. Refusing by it would fail every
        // restart of a server that fills its GPU, so that also the policy `warn` waits, for as long as a driver may take.
        let frees_gpus = self.gpus_freed_at.is_some_and(|at| pass.now.since(at) < GPU_RELEASE);
        let awaits_driver = fit != MemoryFit::Now && frees_gpus && budget.gpus_are_short(&requirement);
        let (text, queued) = (budget.describe(&requirement), budget.queue_behind(&requirement, pass.queued_before));
        match (fit, self.policy_for(server)) {
            (MemoryFit::Now, _) => self.grant(server, pass, None, actions),
            _ if awaits_driver => {
                let because = format!("{text}; a driver may still be freeing what a server had");
                pass.queued_before = queued;
                self.hold(server, because, actions)
            }
            (MemoryFit::Later, policy) if waits || policy == AdmissionPolicy::Enforce => {
                let because = format!("{text}; {}", pass.waits_for());
                pass.queued_before = queued;
                self.hold(server, because, actions)
            }
            (MemoryFit::Never, AdmissionPolicy::Enforce) => {
                self.records.remove(server);
                actions.extend(is_held.then(|| launch_released(server)));
                let next = if server.is_canary() {
                    "stop the server that it stands beside, or another one, or set start.memory = \"off\""
                } else {
                    "lower its ctx-size or cache types, stop another server, or set start.memory = \"warn\""
                };
                AdmissionDecision::Refused { detail: format!("{text}; {next}") }
            }
            (MemoryFit::Later | MemoryFit::Never, _) => self.grant(server, pass, Some(text), actions),
        }
    }

    /// Whether a launch fits into memory; `None` while that is not known in this pass.
    pub fn assess<A: From<AdmissionAction>>(
        &mut self,
        server: &ServerId,
        pass: &mut AdmissionPass<'_>,
        actions: &mut Vec<A>,
    ) -> Option<MemoryFit> {
        if self.policy == AdmissionPolicy::Off {
            return Some(MemoryFit::Now);
        }
        let (state, requirement) = self.estimated(server, pass, actions)?;
        let Some(requirement) = requirement else { return Some(MemoryFit::Now) };
        let Some(reading) = pass.reading else {
            pass.needs_reading |= self.is_dirty || state != AdmissionState::Held;
            return None;
        };
        let reservations = self.reservations(pass, reading);
        let budget = MemoryBudget::compute(reading, &reservations);
        let fit = budget.fit(&requirement, pass.queued_before);
        let frees_gpus = self.gpus_freed_at.is_some_and(|at| pass.now.since(at) < GPU_RELEASE);
        if fit == MemoryFit::Never && frees_gpus && budget.gpus_are_short(&requirement) {
            return Some(MemoryFit::Later);
        }
        Some(fit)
    }

    /// Whether a launch fits into memory once these servers are gone. What is not known does not limit.
    pub fn fits_without(&self, server: &ServerId, gone: &BTreeSet<ServerId>, pass: &AdmissionPass<'_>) -> bool {
        let requirement = self.requirement(server);
        let (Some(reading), Some(requirement)) = (pass.reading, requirement) else { return true };
        if self.policy == AdmissionPolicy::Off {
            return true;
        }
        let stages = pass.stages.iter().map(|(server, stage)| {
            let stage = if gone.contains(server) { ReservationStage::Stopping } else { *stage };
            (server.clone(), stage)
        });
        let without = AdmissionPass { stages: stages.collect(), ..AdmissionPass::default() };
        let reservations = self.reservations(&without, reading);
        MemoryBudget::compute(reading, &reservations).fit(requirement, pass.queued_before) != MemoryFit::Never
    }

    /// Keeps the memory for which others are being evicted from the launches behind.
    pub fn wait_behind(&mut self, server: &ServerId, pass: &mut AdmissionPass<'_>) {
        let (Some(reading), Some(requirement)) = (pass.reading, self.requirement(server)) else { return };
        let reservations = self.reservations(pass, reading);
        pass.queued_before =
            MemoryBudget::compute(reading, &reservations).queue_behind(requirement, pass.queued_before);
    }

    /// Holds a launch until others may be evicted for it.
    pub fn wait_for_room<A: From<AdmissionAction>>(
        &mut self,
        server: &ServerId,
        pass: &mut AdmissionPass<'_>,
        actions: &mut Vec<A>,
    ) {
        let (Some(reading), Some(requirement)) = (pass.reading, self.requirement(server)) else { return };
        let reservations = self.reservations(pass, reading);
        let text = MemoryBudget::compute(reading, &reservations).describe(requirement);
        self.hold(server, format!("{text}; waits until others may be stopped for it"), actions);
    }

    /// The state of a launch, and what it needs as far as that can be known; `None` while an estimate is awaited, which is requested where
    /// nobody has done so.
    ///
    /// Blocks later launches too, where memory is enforced: which launch gets the memory must not depend on whose file is
    /// read first. With the policy `warn` every launch is granted, so that none waits for another.
    fn estimated<A: From<AdmissionAction>>(
        &mut self,
        server: &ServerId,
        pass: &mut AdmissionPass<'_>,
        actions: &mut Vec<A>,
    ) -> Option<(AdmissionState, Option<MemoryRequirement>)> {
        let known = match self.records.get(server) {
            None => {
                self.request_estimate(server, AdmissionState::Due, actions);
                None
            }
            Some(AdmissionRecord { estimate: Estimate::Known(requirement), state, .. }) if !self.awaits_adopted() => {
                Some((*state, requirement.clone()))
            }
            Some(_) => None,
        };
        pass.is_blocked |= known.is_none() && self.policy == AdmissionPolicy::Enforce;
        known
    }

    /// Whether it is not known yet what a process holds that was taken over: its end may make the room that is missing.
    fn awaits_adopted(&self) -> bool {
        let is_awaited = |record: &AdmissionRecord| {
            record.state == AdmissionState::Granted && matches!(record.estimate, Estimate::Pending)
        };
        self.records.values().any(is_awaited)
    }

    fn requirement(&self, server: &ServerId) -> Option<&MemoryRequirement> {
        match &self.records.get(server)?.estimate {
            Estimate::Known(requirement) => requirement.as_ref(),
            Estimate::Pending => None,
        }
    }

    /// Ends a pass: requests a reading if a launch needs one, and sets the time of the next recheck.
    pub fn end_pass<A: From<AdmissionAction>>(&mut self, pass: &AdmissionPass<'_>, actions: &mut Vec<A>) {
        // While an outdated reading is under way, its answer sets `is_dirty` and the next pass comes back here.
        if pass.needs_reading && self.reading == ReadingState::Idle {
            self.reading = ReadingState::Requested;
            self.is_dirty = false;
            let pids = self.records.values().filter_map(|record| record.pid).collect();
            actions.push(AdmissionAction::ReadMemory { pids }.into());
        }
        // Also one to which this pass did not come, because it waits for others by a rule: no event may tell when that is over.
        if !self.records.values().any(|record| record.state == AdmissionState::Held) {
            self.recheck_at = None;
        } else if pass.reading.is_some() || self.recheck_at.is_none() {
            self.recheck_at = Some(pass.now + RECHECK);
        }
    }

    /// A canary that may not fit is not started beside servers that people use, also where other servers would only be warned of.
    fn policy_for(&self, server: &ServerId) -> AdmissionPolicy {
        if server.is_canary() { AdmissionPolicy::Enforce } else { self.policy }
    }

    fn grant<A: From<AdmissionAction>>(
        &mut self,
        server: &ServerId,
        pass: &mut AdmissionPass<'_>,
        warning: Option<String>,
        actions: &mut Vec<A>,
    ) -> AdmissionDecision {
        if let Some(record) = self.records.get_mut(server) {
            if record.state == AdmissionState::Held {
                actions.push(launch_released(server));
            }
            record.state = AdmissionState::Granted;
            if warning.is_some() {
                // Launched with a warning. Reserve nothing for it, or every later launch would be warned too.
                record.estimate = Estimate::Known(None);
            }
        }
        // Later launches of this pass see its reservation.
        pass.stages.insert(server.clone(), ReservationStage::Starting);
        AdmissionDecision::Granted { warning }
    }

    /// Holds a launch. The event is published once: its numbers change with every reading.
    fn hold<A: From<AdmissionAction>>(
        &mut self,
        server: &ServerId,
        because: String,
        actions: &mut Vec<A>,
    ) -> AdmissionDecision {
        if let Some(record) = self.records.get_mut(server).filter(|record| record.state == AdmissionState::Due) {
            record.state = AdmissionState::Held;
            actions
                .push(AdmissionAction::Publish { server: server.clone(), event: Event::LaunchHeld { because } }.into());
        }
        AdmissionDecision::Waiting
    }
}

impl AdmissionPass<'_> {
    /// The reason why a launch is held, as text for people.
    fn waits_for(&self) -> String {
        let ending = self.stages.iter().filter(|(_, stage)| stage.is_ending());
        let names: Vec<&str> = ending.map(|(server, _)| server.as_str()).collect();
        if names.is_empty() {
            return "others wait for memory already".to_owned();
        }
        format!("waits for the end of {}", names.join(", "))
    }
}
