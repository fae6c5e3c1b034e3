//! The supervisor as a component.

use std::time::Duration;

use llama_warden_bus::{
    Accepted, BusClosed, CommandSender, Component, Delivery, Fact, Order, Ports, Publisher, Request,
};
use llama_warden_config::Fleet;
use llama_warden_events::{
    CommandSummary, Elapsed, Event, Incarnation, LaunchCommand, Refused, Seq, ServerId, SuperviseCommand, TerminateCommand,
};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::machine::{Action, Machine};

/// How the supervisor is set up.
#[derive(Debug, Clone)]
pub struct SupervisorSettings {
    /// The configured servers.
    pub fleet: watch::Receiver<Fleet>,
    /// Start these by themselves; absent means every enabled one.
    pub only: Option<Vec<ServerId>>,
    /// Longest time from the wish to shut down to the end.
    pub shutdown_limit: Duration,
}

/// Starts what is enabled, stops everything at the end, and does what people ask for in between.
#[derive(Debug)]
pub struct Supervisor {
    settings: SupervisorSettings,
}

/// Why the supervisor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SupervisorError {
    /// The bus is gone.
    #[error("could not publish a decision")]
    Bus(#[from] BusClosed),
    /// Nobody can ask any more.
    #[error("every sender of commands is gone")]
    NoSender,
}

impl Supervisor {
    /// A supervisor that has started nothing yet.
    pub const fn new(settings: SupervisorSettings) -> Self {
        Self { settings }
    }
}

impl Component for Supervisor {
    const NAME: &'static str = "supervisor";
    type Command = SuperviseCommand;
    type Error = SupervisorError;

    async fn run(self, mut ports: Ports<SuperviseCommand>) -> Result<(), SupervisorError> {
        let fleet = self.settings.fleet.borrow().clone();
        let servers = fleet.iter().map(|spec| spec.id.clone());
        let mut machine = Machine::new(servers, self.settings.shutdown_limit);
        let mut hands = Hands { facts: ports.facts, commands: ports.commands, replies: JoinSet::new() };
        for spec in fleet.iter() {
            hands.facts.publish(Fact::server(spec.id.clone(), Event::ServerConfigured { card: spec.card() })).await?;
        }
        let enabled = fleet.iter().filter(|spec| match &self.settings.only {
            Some(only) => only.contains(&spec.id),
            None => spec.enabled,
        });
        let actions = machine.start_all(enabled.map(|spec| &spec.id));
        hands.perform(actions, None).await?;
        loop {
            let deadline = machine.next_deadline();
            let (actions, cause) = tokio::select! {
                () = ports.cancel.cancelled() => return Ok(()),
                request = ports.inbox.recv() => match request {
                    Some(request) => hands.take_up(&mut machine, request, ports.clock.now()).await?,
                    None => return Err(SupervisorError::NoSender),
                },
                delivery = ports.events.next() => match delivery {
                    Some(Delivery::Event(envelope)) => (machine.on_event(&envelope), Some(envelope.seq)),
                    Some(Delivery::Gap { snapshot, .. }) => (machine.on_gap(&snapshot), None),
                    None => return Err(BusClosed.into()),
                },
                Some(reply) = hands.replies.join_next() => match reply {
                    Ok((Some((server, incarnation)), Err(refused))) => {
                        tracing::warn!(%server, %incarnation, %refused, "launch refused");
                        (machine.on_launch_refused(&server, incarnation, &refused), None)
                    }
                    // A refused stop names a launch that is over; its end is on the way as a fact.
                    _ => (Vec::new(), None),
                },
                () = ports.clock.sleep_until(deadline), if deadline.is_some() => {
                    (machine.on_deadline(ports.clock.now()), None)
                }
            };
            hands.perform(actions, cause).await?;
        }
    }
}

/// A launch that was asked for, or nothing for a stop; and the answer.
type Answer = (Option<(ServerId, Incarnation)>, Result<Accepted, Refused>);

struct Hands {
    facts: Publisher,
    commands: CommandSender,
    replies: JoinSet<Answer>,
}

impl Hands {
    async fn take_up(
        &self,
        machine: &mut Machine,
        request: Request<SuperviseCommand>,
        now: Elapsed,
    ) -> Result<(Vec<Action>, Option<Seq>), SupervisorError> {
        if let Some(refused) = machine.refusal(&request.command) {
            request.refuse(refused);
            return Ok((Vec::new(), None));
        }
        let (server, summary) = summarize(&request.command);
        let accepted = Event::CommandAccepted { command: summary };
        let fact = match server {
            Some(server) => Fact::server(server, accepted),
            None => Fact::daemon(accepted),
        };
        let id = self.facts.publish_acked(fact.because(request.cause)).await?;
        let command = request.command.clone();
        request.accept(Some(id));
        Ok((machine.on_command(command, id, now), Some(id)))
    }

    async fn perform(&mut self, actions: Vec<Action>, cause: Option<Seq>) -> Result<(), SupervisorError> {
        for action in actions {
            match action {
                Action::Launch { server, incarnation } => {
                    let command = LaunchCommand::LaunchServer { server: server.clone(), incarnation };
                    let reply = self.commands.post(Order::new(command).because(cause));
                    self.replies.spawn(async move { (Some((server, incarnation)), reply.await) });
                }
                Action::Terminate { server, incarnation, reason, grace } => {
                    let command = TerminateCommand::TerminateServer { server, incarnation, reason, grace };
                    let reply = self.commands.post(Order::new(command).because(cause));
                    self.replies.spawn(async move { (None, reply.await) });
                }
                Action::Complete { server, id, outcome } => {
                    let event = Event::CommandCompleted { outcome };
                    let fact = match server {
                        Some(server) => Fact::server(server, event),
                        None => Fact::daemon(event),
                    };
                    self.facts.publish(fact.because(id)).await?;
                }
                Action::AnnounceStopping { trigger } => {
                    self.facts.publish(Fact::daemon(Event::DaemonStopping { trigger }).because(cause)).await?;
                }
                Action::AnnounceStopped { survivors } => {
                    self.facts.publish(Fact::daemon(Event::DaemonStopped { survivors }).because(cause)).await?;
                }
            }
        }
        Ok(())
    }
}

fn summarize(command: &SuperviseCommand) -> (Option<ServerId>, CommandSummary) {
    match command {
        SuperviseCommand::StartServer { server } => (Some(server.clone()), CommandSummary::Start),
        SuperviseCommand::StopServer { server, force, .. } => {
            (Some(server.clone()), CommandSummary::Stop { force: *force })
        }
        SuperviseCommand::RestartServer { server, force, .. } => {
            (Some(server.clone()), CommandSummary::Restart { force: *force })
        }
        SuperviseCommand::ShutDown { .. } => (None, CommandSummary::ShutDown),
    }
}
