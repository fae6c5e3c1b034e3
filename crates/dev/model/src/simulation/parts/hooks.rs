//! Hooks, played: it runs `pre-stop` commands, which end when a step says so. Every second launch has a command that cannot run.

use llama_warden_bus::EventDraft;
use llama_warden_events::{Event, HookCommand, HookOutcome, HookPoint, Incarnation, RefusalReason, Refused, ServerId};

use crate::simulation::Simulation;
use crate::{BrokenPromise, SimulatedInbox, SimulatedIncoming};

#[derive(Debug)]
pub(crate) struct HooksPart {
    pub(crate) inbox: SimulatedInbox<HookCommand>,
    running: Vec<(ServerId, Incarnation)>,
}

impl HooksPart {
    pub(crate) fn new() -> Self {
        Self { inbox: SimulatedInbox::default(), running: Vec::new() }
    }
}

impl Simulation {
    pub(crate) fn read_hooks(&mut self, command_first: bool) -> Result<bool, BrokenPromise> {
        match self.hooks.inbox.read(&self.bus, command_first) {
            None => return Ok(false),
            Some(SimulatedIncoming::Command(sent)) => {
                let (HookCommand::RunPreStop { server, incarnation, .. }
                | HookCommand::RunPreStart { server, incarnation }) = sent.command;
                if incarnation.get().is_multiple_of(4) {
                    let refused = Refused::new(RefusalReason::QueueFull, "too many commands wait");
                    self.terminator.refused.push_back((server, incarnation, refused));
                } else {
                    self.hooks.running.push((server, incarnation));
                }
            }
            Some(SimulatedIncoming::Delivery(_)) => {}
        }
        Ok(true)
    }

    /// A command ends.
    pub(crate) fn finish_hook(&mut self, task: usize) -> bool {
        if self.hooks.running.is_empty() {
            return false;
        }
        let (server, incarnation) = self.hooks.running.remove(task % self.hooks.running.len());
        let completed =
            Event::HookCompleted { hook: HookPoint::PreStop, outcome: HookOutcome::Succeeded, seconds: 0.1 };
        self.publish(EventDraft::incarnation(server, incarnation, completed));
        true
    }
}
