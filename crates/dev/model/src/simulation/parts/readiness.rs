//! Readiness around its machines.

use llama_warden_bus::{Delivery, EventDraft};
use llama_warden_component::{LaunchChange, LaunchReadiness, LaunchTracker, Transition};
use llama_warden_config::Fleet;
use llama_warden_events::{Event, Incarnation, LaunchCommand, ListenerOwner, NoCommand, Refused, ServerId, Uptime};
use llama_warden_readiness::{
    Probeable, ReadinessAction, ReadinessFailure, ReadinessInput, ReadinessMachine, ReadinessPolicy,
};
use tokio::sync::watch;

use crate::simulation::Simulation;
use crate::{BrokenPromise, SimulatedInbox, SimulatedIncoming};

type LaunchKey = (ServerId, Incarnation);

/// A question that is on its way.
#[derive(Debug)]
enum ReadinessTask {
    Probe,
    Identify { round: u32 },
    Refused(Refused),
}

#[derive(Debug)]
pub(crate) struct ReadinessPart {
    launches: LaunchTracker<Option<ReadinessMachine>>,
    inbox: SimulatedInbox<NoCommand>,
    tasks: Vec<(LaunchKey, ReadinessTask)>,
}

impl ReadinessPart {
    pub(crate) fn new(fleet: watch::Receiver<Fleet>) -> Self {
        Self { launches: LaunchTracker::new(fleet), inbox: SimulatedInbox::default(), tasks: Vec::new() }
    }

    pub(crate) fn next_deadline(&self) -> Option<Uptime> {
        let machines = self.launches.iter().filter_map(|(_, launch)| launch.state.as_ref());
        machines.filter_map(ReadinessMachine::next_deadline).min()
    }

    /// The latest launch of a server, and whether it is over.
    pub(crate) fn belief(&self, server: &ServerId) -> Option<(Incarnation, bool)> {
        self.launches.get(server).map(|launch| (launch.incarnation, launch.is_over))
    }

    /// The launcher refused to say who listens.
    pub(crate) fn on_refused(&mut self, key: LaunchKey, refused: Refused) {
        self.tasks.push((key, ReadinessTask::Refused(refused)));
    }

    fn machine(&mut self, (server, incarnation): &LaunchKey) -> Option<&mut ReadinessMachine> {
        self.launches.launch_mut(server, *incarnation)?.state.as_mut()
    }
}

impl Simulation {
    pub(crate) fn read_readiness(&mut self) -> Result<bool, BrokenPromise> {
        match self.readiness.inbox.read(&self.bus, false) {
            None => return Ok(false),
            Some(SimulatedIncoming::Delivery(delivery)) => self.follow_readiness(&delivery)?,
            Some(SimulatedIncoming::Command(sent)) => match sent.command {},
        }
        Ok(true)
    }

    pub(crate) fn miss_readiness(&mut self) -> Result<bool, BrokenPromise> {
        let Some(gap) = self.readiness.inbox.miss(&self.bus) else { return Ok(false) };
        self.follow_readiness(&gap)?;
        Ok(true)
    }

    fn follow_readiness(&mut self, delivery: &Delivery) -> Result<(), BrokenPromise> {
        for LaunchChange { server, incarnation, transition, .. } in self.readiness.launches.on_event(delivery) {
            let key = (server, incarnation);
            match transition {
                Transition::Spawned(process) => {
                    let spec = self.readiness.launches.configured(&key.0);
                    let Some(launch) = self.readiness.launches.launch_mut(&key.0, key.1) else { continue };
                    if let Some(spec) = spec.filter(|_| launch.stop.is_none() && launch.failure.is_none()) {
                        let policy = ReadinessPolicy::new(&spec, Probeable::Yes);
                        launch.state = Some(ReadinessMachine::new(policy, process.spawned));
                        self.read_output(&key)?;
                    }
                }
                Transition::BecameReady(_) => {
                    if let Some(machine) = self.readiness.machine(&key).filter(|machine| machine.is_starting()) {
                        machine.note_ready();
                    }
                }
                Transition::StopBegan(_) => self.advance_readiness(&key, ReadinessInput::StopBegan)?,
                Transition::Failed(_) => self.advance_readiness(&key, ReadinessInput::FailedElsewhere)?,
                Transition::Ended { end, launch } => {
                    let Some(end) = end else { continue };
                    if let Some(mut machine) = launch.state {
                        let actions = machine.on(ReadinessInput::Exited { end, evidence: None }, self.now);
                        self.perform_readiness(&key, actions)?;
                    } else if launch.stop.is_none() && launch.failure.is_none() {
                        let was_ready = launch.readiness != LaunchReadiness::NotYet;
                        let failure = ReadinessFailure::at_unwatched_exit(was_ready, end, None);
                        self.perform_readiness(&key, vec![ReadinessAction::Fail(failure)])?;
                    }
                }
                _ => {}
            }
        }
        if let Delivery::Event(envelope) = delivery
            && let (Some(server), Some(incarnation)) = (&envelope.server, envelope.incarnation)
            && let Event::ListenerIdentified { listener } = &envelope.event
        {
            let key = (server.clone(), incarnation);
            self.read_output(&key)?;
            self.advance_readiness(&key, ReadinessInput::ListenerIdentified(listener.clone()))?;
        }
        Ok(())
    }

    /// A question is answered by what is outside now.
    pub(crate) fn finish_readiness(&mut self, task: usize) -> Result<bool, BrokenPromise> {
        if self.readiness.tasks.is_empty() {
            return Ok(false);
        }
        let (key, task) = self.readiness.tasks.remove(task % self.readiness.tasks.len());
        self.read_output(&key)?;
        let input = match task {
            ReadinessTask::Probe => ReadinessInput::Answered(self.world.probe(&key.0)),
            ReadinessTask::Identify { round } => {
                ReadinessInput::IdentityChecked { round, identity: self.world.identify(&key.0) }
            }
            ReadinessTask::Refused(refused) => {
                let detail = refused.to_string();
                return self
                    .advance_readiness(&key, ReadinessInput::ListenerIdentified(ListenerOwner::Unreadable { detail }))
                    .map(|()| true);
            }
        };
        self.world.note_heard(&key.0, key.1, &input);
        self.advance_readiness(&key, input)?;
        Ok(true)
    }

    pub(crate) fn deadline_readiness(&mut self) -> Result<(), BrokenPromise> {
        let now = self.now;
        let due = self.readiness.launches.iter().filter(|(_, launch)| {
            let deadline = launch.state.as_ref().and_then(ReadinessMachine::next_deadline);
            deadline.is_some_and(|deadline| deadline <= now)
        });
        let due: Vec<_> = due.map(|(server, launch)| (server.clone(), launch.incarnation)).collect();
        for key in due {
            self.read_output(&key)?;
            self.advance_readiness(&key, ReadinessInput::Deadline)?;
        }
        Ok(())
    }

    /// Gives the machine what its process has written.
    fn read_output(&mut self, key: &LaunchKey) -> Result<(), BrokenPromise> {
        let Some(process) = self.world.processes.get_mut(&key.0).filter(|process| process.incarnation == key.1) else {
            return Ok(());
        };
        let is_starting = self.readiness.machine(key).is_some_and(|machine| machine.is_starting());
        if !is_starting {
            return Ok(());
        }
        let summary = std::mem::take(&mut process.output);
        self.advance_readiness(key, ReadinessInput::Output(summary))
    }

    fn advance_readiness(&mut self, key: &LaunchKey, input: ReadinessInput) -> Result<(), BrokenPromise> {
        let now = self.now;
        let Some(machine) = self.readiness.machine(key) else { return Ok(()) };
        let actions = machine.on(input, now);
        self.perform_readiness(key, actions)
    }

    fn perform_readiness(&mut self, key: &LaunchKey, actions: Vec<ReadinessAction>) -> Result<(), BrokenPromise> {
        self.promises.on_verdict(key, &actions, self.world.processes.get(&key.0));
        for action in actions {
            let event = match action {
                ReadinessAction::Probe => {
                    self.readiness.tasks.push((key.clone(), ReadinessTask::Probe));
                    continue;
                }
                ReadinessAction::CheckIdentity { round } => {
                    self.readiness.tasks.push((key.clone(), ReadinessTask::Identify { round }));
                    continue;
                }
                ReadinessAction::IdentifyListener => {
                    let command = LaunchCommand::IdentifyListener { server: key.0.clone(), incarnation: key.1 };
                    self.launcher.inbox.send(&self.bus, command, None, 0);
                    continue;
                }
                ReadinessAction::Publish(event) => event,
                ReadinessAction::Fail(failure) => {
                    Event::ServerFailed { reason: failure.reason, detail: failure.detail, lines: Vec::new() }
                }
            };
            self.publish(EventDraft::incarnation(key.0.clone(), key.1, event));
        }
        Ok(())
    }
}
