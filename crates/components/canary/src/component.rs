//! The component: takes requests for trials, and performs what the machine of the one under way decides.

use std::path::PathBuf;

use llama_warden_bus::{
    Accepted, Bus, BusClosed, CommandRequest, CommandSender, CommandSetId, Delivery, EventDraft, OutputLane, Publisher,
    ReceivedCommand,
};
use llama_warden_component::{Component, Context, Ports, Worker, next_task};
use llama_warden_config::{Fleet, RestartPolicy};
use llama_warden_events::{
    BuildChange, BuildFigures, CanaryCommand, Event, RefusalReason, Refused, Seq, ServerId, SuperviseCommand, Uptime,
};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::machine::{Replacement, Trial, TrialAction, TrialRequest};
use crate::measure::{Comparison, ReadyServer, compare};

/// Runs one canary at a time.
#[derive(Debug)]
pub struct Canaries {
    bus: Bus,
    fleet: watch::Receiver<Fleet>,
    lane: OutputLane,
}

/// Why the component ended.
#[derive(Debug, thiserror::Error)]
#[error("could not publish an event")]
pub struct CanaryError(#[from] BusClosed);

impl Canaries {
    /// Canaries of the servers in force.
    pub fn build(context: &Context) -> Self {
        Self { bus: context.bus().clone(), fleet: context.fleet(), lane: context.lane().clone() }
    }
}

impl Component for Canaries {
    const NAME: &'static str = "canary";
    const SENDS: &'static [CommandSetId] = &[CommandSetId::of::<SuperviseCommand>()];
    type Command = CanaryCommand;
    type Error = CanaryError;

    async fn run(self, ports: Ports<CanaryCommand>) -> Result<(), CanaryError> {
        let worker = CanaryWorker {
            bus: self.bus,
            fleet: self.fleet,
            lane: self.lane,
            events: ports.events.clone(),
            commands: ports.commands.clone(),
            trial: None,
            tasks: JoinSet::new(),
        };
        ports.drive(worker).await
    }
}

struct CanaryWorker {
    /// Its latest snapshot is at least as new as the latest event that was delivered.
    bus: Bus,
    fleet: watch::Receiver<Fleet>,
    lane: OutputLane,
    events: Publisher,
    commands: CommandSender,
    trial: Option<RunningTrial>,
    tasks: JoinSet<(Seq, CanaryInput)>,
}

struct RunningTrial {
    trial: Trial,
    prompt: Option<String>,
}

/// What a task of a trial brings.
enum CanaryInput {
    Replied(BuildChange, Result<Accepted, Refused>),
    Compared(Box<Comparison>),
}

impl Worker for CanaryWorker {
    type Command = CanaryCommand;
    type Error = CanaryError;
    type Input = Result<(Seq, CanaryInput), JoinError>;

    async fn on_event(&mut self, _: Delivery, now: Uptime) -> Result<(), CanaryError> {
        self.look(now).await
    }

    async fn on_command(&mut self, request: ReceivedCommand<CanaryCommand>, _: Uptime) -> Result<(), CanaryError> {
        match request.command.clone() {
            CanaryCommand::RunCanary { server, binary, prompt, switch } => {
                let (replacement, old) = match self.replacement(&server, switch) {
                    Ok(possible) => possible,
                    Err(refused) => {
                        request.refuse(refused);
                        return Ok(());
                    }
                };
                let began = Event::CanaryBegan { binary: binary.clone(), switch };
                let draft = EventDraft::server(server.clone(), began).because(request.cause);
                let id = self.events.publish_acked(draft).await?;
                request.accept(Some(id));
                let new = BuildFigures { binary, ..BuildFigures::default() };
                let (trial, actions) = Trial::begin(TrialRequest { server, new, old, id, replacement });
                self.trial = Some(RunningTrial { trial, prompt });
                self.perform(actions).await
            }
            CanaryCommand::CancelCanary { server } => {
                let running = self.trial.as_mut().filter(|running| *running.trial.server() == server);
                let actions = running.map(|running| running.trial.cancel()).unwrap_or_default();
                request.accept(None);
                self.perform(actions).await
            }
        }
    }

    fn next_deadline(&self) -> Option<Uptime> {
        self.trial.as_ref()?.trial.next_deadline()
    }

    async fn on_deadline(&mut self, now: Uptime) -> Result<(), CanaryError> {
        self.look(now).await
    }

    async fn next_input(&mut self) -> Self::Input {
        next_task(&mut self.tasks).await
    }

    async fn on_input(&mut self, input: Self::Input, now: Uptime) -> Result<(), CanaryError> {
        let (id, input) = match input {
            Ok(input) => input,
            Err(error) => {
                tracing::error!(%error, "a task of a canary was lost");
                let cancelled = self.trial.as_mut().map(|running| running.trial.cancel());
                return self.perform(cancelled.unwrap_or_default()).await;
            }
        };
        let Some(RunningTrial { trial, .. }) = self.trial.as_mut().filter(|running| running.trial.id() == id) else {
            return Ok(());
        };
        let actions = match input {
            CanaryInput::Replied(change, Ok(_)) => trial.on_accepted(&change, &self.bus.snapshot(), now),
            CanaryInput::Replied(_, Err(refused)) => trial.on_refused(&refused),
            CanaryInput::Compared(comparison) => trial.on_compared(*comparison),
        };
        self.perform(actions).await
    }
}

impl CanaryWorker {
    /// Whether a trial may begin, whether it ends with a replacement, and what the server runs.
    fn replacement(&self, server: &ServerId, switch: bool) -> Result<(Replacement, PathBuf), Refused> {
        let refused = |reason, detail: String| Err(Refused::new(reason, detail));
        if let Some(RunningTrial { trial, .. }) = &self.trial {
            let detail = format!("a canary of {} is under way, and there is one at a time", trial.server());
            return refused(RefusalReason::WrongPhase, detail);
        }
        if server.is_canary() {
            return refused(RefusalReason::UnknownServer, format!("{server} is a canary itself"));
        }
        let snapshot = self.bus.snapshot();
        let Some(record) = snapshot.servers.get(server) else {
            return refused(RefusalReason::UnknownServer, format!("no server is named `{server}`"));
        };
        if switch && !record.is_running() {
            let detail =
                format!("{server} is not running, and a build is replaced under a running server only: start it first");
            return refused(RefusalReason::WrongPhase, detail);
        }
        let Some(spec) = self.fleet.borrow().get(server.as_str()).cloned() else {
            return refused(RefusalReason::UnknownServer, format!("{server} is leaving the configuration"));
        };
        let is_restarted = spec.restart.policy != RestartPolicy::Never;
        let after = Replacement::After { stable: spec.restart.stable_after, is_restarted };
        Ok((if switch { after } else { Replacement::No }, spec.binary.to_path_buf()))
    }

    /// Lets the machine decide by the latest state.
    async fn look(&mut self, now: Uptime) -> Result<(), CanaryError> {
        let Some(running) = &mut self.trial else { return Ok(()) };
        let actions = running.trial.on_snapshot(&self.bus.snapshot(), now);
        self.perform(actions).await
    }

    async fn perform(&mut self, actions: Vec<TrialAction>) -> Result<(), CanaryError> {
        let Some(RunningTrial { trial, prompt }) = &self.trial else { return Ok(()) };
        let (server, id, prompt) = (trial.server().clone(), trial.id(), prompt.clone());
        for action in actions {
            match action {
                TrialAction::Change(change) => {
                    let command = SuperviseCommand::ChangeBuild { server: server.clone(), change: change.clone() };
                    let reply = self.commands.post(CommandRequest::new(command).because(id));
                    self.tasks.spawn(async move { (id, CanaryInput::Replied(change, reply.await)) });
                }
                TrialAction::Compare => {
                    let Some(new) = self.ready_server(&server.canary()) else { continue };
                    let comparing = compare(self.ready_server(&server), new, self.lane.clone(), prompt.clone());
                    self.tasks.spawn(async move { (id, CanaryInput::Compared(comparing.await.into())) });
                }
                TrialAction::Complete(report) => {
                    let draft = EventDraft::server(server.clone(), Event::CanaryCompleted { report });
                    self.events.publish(draft.because(id)).await?;
                }
            }
        }
        self.trial.take_if(|running| running.trial.is_over());
        Ok(())
    }

    fn ready_server(&self, server: &ServerId) -> Option<ReadyServer> {
        let record = self.bus.snapshot().servers.get(server).filter(|record| record.is_ready())?.clone();
        Some(ReadyServer { spec: self.fleet.borrow().get(server.as_str())?.clone(), record })
    }
}
