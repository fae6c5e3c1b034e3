//! The terminator around its machine.

use std::collections::VecDeque;

use llama_warden_bus::EventDraft;
use llama_warden_config::Fleet;
use llama_warden_events::{HookCommand, Incarnation, LaunchCommand, Refused, ServerId, TerminateCommand};
use llama_warden_terminator::{StopAction, TerminatorAction, TerminatorMachine};
use tokio::sync::watch;

use crate::simulation::Simulation;
use crate::{BrokenPromise, SimulatedInbox, SimulatedIncoming};

#[derive(Debug)]
pub(crate) struct TerminatorPart {
    pub(crate) machine: TerminatorMachine,
    pub(crate) inbox: SimulatedInbox<TerminateCommand>,
    /// Refusals of `pre-stop` commands that are on their way.
    pub(crate) refused: VecDeque<(ServerId, Incarnation, Refused)>,
}

impl TerminatorPart {
    pub(crate) fn new(fleet: watch::Receiver<Fleet>) -> Self {
        Self { machine: TerminatorMachine::new(fleet), inbox: SimulatedInbox::default(), refused: VecDeque::new() }
    }
}

impl Simulation {
    pub(crate) fn read_terminator(&mut self, command_first: bool) -> Result<bool, BrokenPromise> {
        let actions = match self.terminator.inbox.read(&self.bus, command_first) {
            None => return Ok(false),
            Some(SimulatedIncoming::Delivery(delivery)) => self.terminator.machine.on_event(&delivery),
            // A refused stop matters to nobody: the end of that launch is on the way.
            Some(SimulatedIncoming::Command(sent)) => {
                self.terminator.machine.on_command(sent.command, sent.cause, self.now).unwrap_or_default()
            }
        };
        self.perform_terminator(actions);
        Ok(true)
    }

    pub(crate) fn miss_terminator(&mut self) -> Result<bool, BrokenPromise> {
        let Some(gap) = self.terminator.inbox.miss(&self.bus) else { return Ok(false) };
        let actions = self.terminator.machine.on_event(&gap);
        self.perform_terminator(actions);
        Ok(true)
    }

    pub(crate) fn finish_terminator(&mut self) -> Result<bool, BrokenPromise> {
        let Some((server, incarnation, refused)) = self.terminator.refused.pop_front() else { return Ok(false) };
        let actions = self.terminator.machine.on_pre_stop_refused(&server, incarnation, &refused, self.now);
        self.perform_terminator(actions);
        Ok(true)
    }

    pub(crate) fn deadline_terminator(&mut self) -> Result<(), BrokenPromise> {
        let actions = self.terminator.machine.on_deadline(self.now);
        self.perform_terminator(actions);
        Ok(())
    }

    fn perform_terminator(&mut self, actions: Vec<TerminatorAction>) {
        for TerminatorAction { server, incarnation, cause, action } in actions {
            match action {
                StopAction::Publish(event) => {
                    self.publish(EventDraft::incarnation(server, incarnation, event).because(cause));
                }
                StopAction::RunPreStop { reason, limit } => {
                    let command = HookCommand::RunPreStop { server, incarnation, reason, limit };
                    self.hooks.inbox.send(&self.bus, command, cause, 0);
                }
                StopAction::Deliver(rung) => {
                    let command = LaunchCommand::DeliverSignal { server, incarnation, signal: rung.signal, rung };
                    self.launcher.inbox.send(&self.bus, command, cause, 0);
                }
            }
        }
    }
}
