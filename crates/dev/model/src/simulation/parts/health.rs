//! Health around its machines.

use std::time::Duration;

use llama_warden_bus::{Delivery, EventDraft};
use llama_warden_component::{LaunchChange, LaunchReadiness, LaunchTracker, Transition};
use llama_warden_config::Fleet;
use llama_warden_events::{Incarnation, NoCommand, ServerId, Uptime};
use llama_warden_health::{CheckOutcome, CheckReport, HealthMachine, HealthState};
use tokio::sync::watch;

use crate::simulation::Simulation;
use crate::{BrokenPromise, Manner, SimulatedInbox, SimulatedIncoming};

#[derive(Debug)]
pub(crate) struct HealthPart {
    launches: LaunchTracker<Option<HealthMachine>>,
    inbox: SimulatedInbox<NoCommand>,
    checks: Vec<(ServerId, Incarnation)>,
}

impl HealthPart {
    pub(crate) fn new(fleet: watch::Receiver<Fleet>) -> Self {
        Self { launches: LaunchTracker::new(fleet), inbox: SimulatedInbox::default(), checks: Vec::new() }
    }

    pub(crate) fn next_deadline(&self) -> Option<Uptime> {
        let machines = self.launches.iter().filter_map(|(_, launch)| launch.state.as_ref());
        machines.filter_map(HealthMachine::next_deadline).min()
    }

    /// The latest launch of a server, and whether it is over.
    pub(crate) fn belief(&self, server: &ServerId) -> Option<(Incarnation, bool)> {
        self.launches.get(server).map(|launch| (launch.incarnation, launch.is_over))
    }

    fn follow(&mut self, delivery: &Delivery, now: Uptime) {
        for LaunchChange { server, incarnation, transition, .. } in self.launches.on_event(delivery) {
            let Some(launch) = self.launches.launch_mut(&server, incarnation) else { continue };
            match transition {
                Transition::BecameReady(_) => {
                    let (Some(spec), Some(_)) = (launch.spec.clone(), launch.process) else { continue };
                    let state = match launch.readiness {
                        LaunchReadiness::Lost => HealthState::Lost,
                        _ => HealthState::Ready,
                    };
                    launch.state = Some(HealthMachine::new(spec.health.clone(), state, now, 0.5));
                }
                Transition::StopBegan(_) | Transition::Failed(_) => launch.state = None,
                _ => {}
            }
        }
    }
}

impl Simulation {
    pub(crate) fn read_health(&mut self) -> Result<bool, BrokenPromise> {
        match self.health.inbox.read(&self.bus, false) {
            None => return Ok(false),
            Some(SimulatedIncoming::Delivery(delivery)) => self.health.follow(&delivery, self.now),
            Some(SimulatedIncoming::Command(sent)) => match sent.command {},
        }
        Ok(true)
    }

    pub(crate) fn miss_health(&mut self) -> bool {
        let Some(gap) = self.health.inbox.miss(&self.bus) else { return false };
        self.health.follow(&gap, self.now);
        true
    }

    pub(crate) fn deadline_health(&mut self) {
        for (server, launch) in self.health.launches.iter_mut() {
            let Some(machine) = &mut launch.state else { continue };
            if machine.begin_check(self.now).is_some() {
                self.health.checks.push((server.clone(), launch.incarnation));
            }
        }
    }

    /// A check ends with what the process does now.
    pub(crate) fn finish_health(&mut self, task: usize) -> bool {
        if self.health.checks.is_empty() {
            return false;
        }
        let (server, incarnation) = self.health.checks.remove(task % self.health.checks.len());
        let process = self.world.alive(&server).filter(|process| process.incarnation == incarnation);
        let detail = || "it does not answer".to_owned();
        let outcome = match process.map(|process| process.manner) {
            None => CheckOutcome::Gone,
            Some(Manner::Serving) => CheckOutcome::Well,
            Some(Manner::Busy) => CheckOutcome::Busy,
            Some(Manner::Loading) => CheckOutcome::NotReady { detail: detail() },
            Some(Manner::Closed | Manner::Wedged) => CheckOutcome::Silent { detail: detail() },
        };
        let machine = self.health.launches.launch_mut(&server, incarnation).and_then(|launch| launch.state.as_mut());
        let Some(machine) = machine else { return true };
        let report =
            CheckReport { outcome, latency: Duration::from_millis(1), cpu: None, tokens: None, is_sleeping: None };
        for event in machine.finish_check(report, self.now) {
            self.publish(EventDraft::incarnation(server.clone(), incarnation, event));
        }
        true
    }
}
