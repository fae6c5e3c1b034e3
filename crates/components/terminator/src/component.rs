//! The terminator as a component: it receives requests and ends of processes, and sends signals and events.

use llama_warden_bus::{
    Accepted, BusClosed, CommandRequest, CommandSender, CommandSetId, Delivery, EventDraft, Publisher, ReceivedCommand,
};
use llama_warden_component::{Component, Context, Ports, Worker, next_task};
use llama_warden_config::Fleet;
use llama_warden_events::{HookCommand, Incarnation, LaunchCommand, Refused, ServerId, TerminateCommand, Uptime};
use llama_warden_state::Snapshot;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::machine::StopAction;
use crate::stops::{TerminatorAction, TerminatorMachine};

/// Ends processes: first with the signals of the ladder, then with KILL.
#[derive(Debug)]
pub struct Terminator {
    fleet: watch::Receiver<Fleet>,
}

impl Terminator {
    /// Takes grace and ladder of each server from the fleet in force.
    pub fn build(context: &Context) -> Self {
        Self { fleet: context.fleet() }
    }
}

impl Component for Terminator {
    const NAME: &'static str = "terminator";
    const SENDS: &'static [CommandSetId] = &[CommandSetId::of::<LaunchCommand>(), CommandSetId::of::<HookCommand>()];
    type Command = TerminateCommand;
    type Error = BusClosed;

    async fn run(self, ports: Ports<TerminateCommand>) -> Result<(), BusClosed> {
        let worker = TerminatorWorker {
            machine: TerminatorMachine::new(self.fleet),
            events: ports.events.clone(),
            commands: ports.commands.clone(),
            deliveries: JoinSet::new(),
            pre_stops: JoinSet::new(),
        };
        ports.drive(worker).await
    }
}

struct TerminatorWorker {
    machine: TerminatorMachine,
    events: Publisher,
    commands: CommandSender,
    deliveries: JoinSet<Result<Accepted, Refused>>,
    /// The replies to `RunPreStop`: accepted or refused. Events report how the commands ended.
    pre_stops: JoinSet<(ServerId, Incarnation, Result<Accepted, Refused>)>,
}

/// Wakes the terminator: an answer to one of its commands.
enum TerminatorInput {
    Signal(Result<Result<Accepted, Refused>, JoinError>),
    PreStop(Result<(ServerId, Incarnation, Result<Accepted, Refused>), JoinError>),
}

impl Worker for TerminatorWorker {
    type Command = TerminateCommand;
    type Error = BusClosed;
    type Input = TerminatorInput;

    async fn on_start(&mut self, snapshot: &Snapshot, _: Uptime) -> Result<(), BusClosed> {
        self.machine.start_from(snapshot);
        Ok(())
    }

    async fn on_event(&mut self, delivery: Delivery, _: Uptime) -> Result<(), BusClosed> {
        let actions = self.machine.on_event(&delivery);
        self.perform(actions).await
    }

    async fn on_command(&mut self, received: ReceivedCommand<TerminateCommand>, now: Uptime) -> Result<(), BusClosed> {
        match self.machine.on_command(received.command.clone(), received.cause, now) {
            Ok(actions) => {
                received.accept(None);
                self.perform(actions).await
            }
            Err(refused) => {
                received.refuse(refused);
                Ok(())
            }
        }
    }

    fn next_deadline(&self) -> Option<Uptime> {
        self.machine.next_deadline()
    }

    async fn on_deadline(&mut self, now: Uptime) -> Result<(), BusClosed> {
        let actions = self.machine.on_deadline(now);
        self.perform(actions).await
    }

    async fn next_input(&mut self) -> TerminatorInput {
        tokio::select! {
            delivered = next_task(&mut self.deliveries) => TerminatorInput::Signal(delivered),
            asked = next_task(&mut self.pre_stops) => TerminatorInput::PreStop(asked),
        }
    }

    async fn on_input(&mut self, answer: TerminatorInput, now: Uptime) -> Result<(), BusClosed> {
        match answer {
            TerminatorInput::Signal(Ok(Err(refused))) => {
                // The process ended before the signal came; its end is on the way as an event.
                tracing::debug!(%refused, "signal not delivered");
            }
            TerminatorInput::PreStop(Ok((server, incarnation, Err(refused)))) => {
                let actions = self.machine.on_pre_stop_refused(&server, incarnation, &refused, now);
                self.perform(actions).await?;
            }
            _ => {}
        }
        Ok(())
    }
}

impl TerminatorWorker {
    async fn perform(&mut self, actions: Vec<TerminatorAction>) -> Result<(), BusClosed> {
        for TerminatorAction { server, incarnation, cause, action } in actions {
            match action {
                StopAction::Publish(event) => {
                    self.events.publish(EventDraft::incarnation(server, incarnation, event).because(cause)).await?;
                }
                StopAction::RunPreStop { reason, limit } => {
                    let command = HookCommand::RunPreStop { server: server.clone(), incarnation, reason, limit };
                    let reply = self.commands.post(CommandRequest::new(command).because(cause));
                    self.pre_stops.spawn(async move { (server, incarnation, reply.await) });
                }
                StopAction::Deliver(rung) => {
                    let signal = rung.signal;
                    let command = LaunchCommand::DeliverSignal { server, incarnation, signal, rung };
                    self.deliveries.spawn(self.commands.post(CommandRequest::new(command).because(cause)));
                }
            }
        }
        Ok(())
    }
}
