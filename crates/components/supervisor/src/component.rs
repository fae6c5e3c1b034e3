//! The supervisor as a component.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use llama_warden_bus::{
    Accepted, BusClosed, CommandRequest, CommandSender, Delivery, EventDraft, Publisher, ReceivedCommand,
};
use llama_warden_component::{Component, Ports};
use llama_warden_config::Fleet;
use llama_warden_events::{
    CommandOutcome, CommandSummary, Event, Incarnation, LaunchCommand, ProfileCard, RefusalReason, Refused, Seq,
    ServerId, SuperviseCommand, TerminateCommand, Uptime,
};
use llama_warden_memory::MemoryProbe;
use llama_warden_support::BlockingError;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::action::Action;
use crate::changes::{Changes, Outcome};
use crate::failures::{FailureFile, Failures};
use crate::machine::{Limits, Machine};
use crate::switch::{FleetSource, Resolved, difference};
use crate::weighing::{Weighed, Weighing};

/// How the supervisor is set up.
pub struct SupervisorSettings {
    /// The configured servers; everybody who needs them reads the other end.
    pub fleet: watch::Sender<Fleet>,
    /// The configured profiles.
    pub profiles: Vec<ProfileCard>,
    /// Resolves changes of profile and configuration.
    pub source: FleetSource,
    /// Bounds in number and time.
    pub limits: Limits,
    /// What back-offs are drawn from.
    pub seed: u64,
    /// What tells the memory that servers need, and what there is.
    pub scales: Arc<dyn MemoryProbe>,
    /// Where failures are kept across runs; `None` forgets them.
    pub state_dir: Option<PathBuf>,
}

impl fmt::Debug for SupervisorSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorSettings").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Starts what is enabled, keeps it running as its policy says, stops everything at the end, and does what people ask
/// for in between.
#[derive(Debug)]
pub struct Supervisor {
    settings: SupervisorSettings,
}

/// Why the supervisor ended.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The bus is gone.
    #[error("could not publish a decision")]
    Bus(#[from] BusClosed),
    /// Nobody can ask any more.
    #[error("every sender of commands is gone")]
    NoSender,
    /// The resolving of a configuration panicked.
    #[error("could not resolve a configuration")]
    Source(#[source] BlockingError),
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
        let mut office = Office::open(self.settings, &ports);
        office.begin().await?;
        loop {
            let deadline = office.machine.next_deadline();
            tokio::select! {
                () = ports.cancel.cancelled() => return Ok(()),
                request = ports.inbox.recv() => match request {
                    Some(request) => office.take_up(request, ports.clock.now()).await?,
                    None => return Err(SupervisorError::NoSender),
                },
                delivery = ports.subscription.next() => match delivery {
                    Some(Delivery::Event(envelope)) => {
                        let actions = office.machine.on_event(&envelope);
                        office.perform(actions, Some(envelope.seq)).await?;
                    }
                    Some(Delivery::Gap { snapshot, .. }) => {
                        let actions = office.machine.on_gap(&snapshot);
                        office.perform(actions, None).await?;
                    }
                    None => return Err(BusClosed.into()),
                },
                Some(reply) = office.replies.join_next() => {
                    // A refused stop names a launch that is over; its end is on the way as an event.
                    if let Ok((Some((server, incarnation)), Err(refused))) = reply {
                        tracing::warn!(%server, %incarnation, %refused, "launch refused");
                        let actions =
                            office.machine.on_launch_refused(&server, incarnation, &refused, ports.clock.now());
                        office.perform(actions, None).await?;
                    }
                }
                resolved = office.changes.next() => {
                    office.bring_about(resolved.map_err(SupervisorError::Source)?).await?;
                }
                weighed = office.weighing.next() => {
                    let now = ports.clock.now();
                    let actions = match weighed {
                        Weighed::Demand { server, ticket, demand } => {
                            office.machine.on_estimated(&server, ticket, demand, now)
                        }
                        Weighed::Memory(reading) => office.machine.on_memory_read(&reading, now),
                    };
                    office.perform(actions, None).await?;
                }
                () = ports.clock.sleep_until(deadline), if deadline.is_some() => {
                    let actions = office.machine.on_deadline(ports.clock.now());
                    office.perform(actions, None).await?;
                }
            }
        }
    }
}

/// A launch that was asked for, or nothing for a stop; and the answer.
type Answer = (Option<(ServerId, Incarnation)>, Result<Accepted, Refused>);

struct Office {
    machine: Machine,
    fleet: watch::Sender<Fleet>,
    profiles: Vec<ProfileCard>,
    changes: Changes,
    failure_file: Option<FailureFile>,
    remembered: Failures,
    events: Publisher,
    commands: CommandSender,
    replies: JoinSet<Answer>,
    weighing: Weighing,
}

impl Office {
    fn open(settings: SupervisorSettings, ports: &Ports<SuperviseCommand>) -> Self {
        let failure_file = settings.state_dir.as_deref().map(FailureFile::new);
        Self {
            machine: Machine::new(settings.limits, settings.seed),
            remembered: failure_file.as_ref().map(FailureFile::recall).unwrap_or_default(),
            fleet: settings.fleet,
            profiles: settings.profiles,
            changes: Changes::new(settings.source),
            failure_file,
            events: ports.events.clone(),
            commands: ports.commands.clone(),
            replies: JoinSet::new(),
            weighing: Weighing::new(settings.scales),
        }
    }

    /// Tells what is configured and starts what is enabled.
    async fn begin(&mut self) -> Result<(), SupervisorError> {
        let fleet = self.fleet.borrow().clone();
        for spec in fleet.iter() {
            let failures = self.remembered.get(&spec.id).copied().unwrap_or_default();
            self.machine.add(spec.id.clone(), spec.restart.clone(), failures);
            self.publish(EventDraft::server(spec.id.clone(), Event::ServerConfigured { card: spec.card().into() }))
                .await?;
        }
        self.publish(EventDraft::daemon(Event::ProfilesConfigured { profiles: self.profiles.clone() })).await?;
        let enabled = fleet.iter().filter(|spec| spec.enabled);
        let actions = self.machine.start_all(enabled.map(|spec| &spec.id));
        self.perform(actions, None).await
    }

    async fn take_up(
        &mut self,
        request: ReceivedCommand<SuperviseCommand>,
        now: Uptime,
    ) -> Result<(), SupervisorError> {
        if let Some(refused) = self.machine.refusal(&request.command) {
            request.refuse(refused);
            return Ok(());
        }
        let Some(request) = self.changes.take_up(request) else { return Ok(()) };
        if let SuperviseCommand::ShutDown { .. } = &request.command {
            let ended = Refused::new(RefusalReason::ShuttingDown, "the daemon is shutting down");
            self.changes.call_off().for_each(|change| change.refuse(ended.clone()));
        }
        let id = self.accept(&request.command, request.cause).await?;
        let actions = self.machine.on_command(request.command.clone(), id, now);
        request.accept(Some(id));
        self.perform(actions, Some(id)).await
    }

    /// A change was resolved. Wishes that it was resolved for are answered in their order; after the first of several
    /// reloads nothing is left to do for the others.
    async fn bring_about(&mut self, (requests, resolved): Outcome) -> Result<(), SupervisorError> {
        for request in requests {
            match resolved.clone() {
                Ok(resolved) => {
                    let id = self.accept(&request.command, request.cause).await?;
                    let command = request.command.clone();
                    request.accept(Some(id));
                    self.switch(&command, id, resolved).await?;
                }
                Err(refused) => {
                    if let SuperviseCommand::Reload { trigger } = &request.command {
                        let (trigger, detail) = (trigger.clone(), refused.detail.clone());
                        self.publish(EventDraft::daemon(Event::ConfigurationRefused { trigger, detail })).await?;
                    }
                    request.refuse(refused);
                }
            }
        }
        self.changes.proceed();
        Ok(())
    }

    async fn accept(&self, command: &SuperviseCommand, cause: Option<Seq>) -> Result<Seq, SupervisorError> {
        let (server, summary) = summarize(command);
        let accepted = Event::CommandAccepted { command: summary };
        let event = match server {
            Some(server) => EventDraft::server(server, accepted),
            None => EventDraft::daemon(accepted),
        };
        Ok(self.events.publish_acked(event.because(cause)).await?)
    }

    async fn switch(&mut self, command: &SuperviseCommand, id: Seq, next: Resolved) -> Result<(), SupervisorError> {
        let current = self.fleet.borrow().clone();
        // Who activates a profile asks for its servers; a configuration that is read again, often by itself, does not.
        let is_reload = matches!(command, SuperviseCommand::Reload { .. });
        let is_held = |server: &ServerId| is_reload && self.machine.is_held(server);
        let difference = difference(&current, &next, |server| self.machine.is_up(server), is_held);
        let planned = Event::SwitchPlanned { plan: difference.plan.into() };
        self.publish(EventDraft::daemon(planned).because(id)).await?;
        if let SuperviseCommand::ActivateProfile { dry_run: true, .. } = command {
            let outcome = CommandOutcome::Ready;
            return self.publish(EventDraft::daemon(Event::CommandCompleted { outcome }).because(id)).await;
        }
        // The new specs first: what is launched from now on is launched by them.
        self.fleet.send_replace(next.fleet.clone());
        for spec in next.fleet.iter() {
            let card = spec.card();
            if current.get(spec.id.as_str()).is_none_or(|old| old.card() != card) {
                let configured = Event::ServerConfigured { card: card.into() };
                self.publish(EventDraft::server(spec.id.clone(), configured).because(id)).await?;
            }
        }
        if let SuperviseCommand::Reload { trigger } = command {
            let trigger = trigger.clone();
            self.publish(EventDraft::daemon(Event::ConfigurationReloaded { trigger }).because(id)).await?;
            self.publish(EventDraft::daemon(Event::ProfilesConfigured { profiles: next.profiles }).because(id)).await?;
        }
        self.publish(EventDraft::daemon(Event::ProfileActivated { profile: next.profile }).because(id)).await?;
        let actions = self.machine.switch(&difference.members, Some(id));
        self.perform(actions, Some(id)).await
    }

    async fn perform(&mut self, actions: Vec<Action>, cause: Option<Seq>) -> Result<(), SupervisorError> {
        for action in actions {
            let event = match action {
                Action::Launch { server, incarnation } => {
                    let command = LaunchCommand::LaunchServer { server: server.clone(), incarnation };
                    let reply = self.commands.post(CommandRequest::new(command).because(cause));
                    self.replies.spawn(async move { (Some((server, incarnation)), reply.await) });
                    continue;
                }
                Action::Terminate { server, incarnation, reason, grace } => {
                    let command = TerminateCommand::TerminateServer { server, incarnation, reason, grace };
                    let reply = self.commands.post(CommandRequest::new(command).because(cause));
                    self.replies.spawn(async move { (None, reply.await) });
                    continue;
                }
                Action::EstimateMemory { server, ticket } => {
                    let spec = self.fleet.borrow().get(server.as_str()).cloned();
                    self.weighing.ask_demand(server, ticket, spec);
                    continue;
                }
                Action::ReadMemory { pids } => {
                    self.weighing.ask_memory(pids);
                    continue;
                }
                Action::Announce { server, event } => EventDraft::server(server, event).because(cause),
                Action::Tell { server, incarnation, event } => {
                    EventDraft::incarnation(server, incarnation, event).because(cause)
                }
                Action::Complete { server, id, outcome } => {
                    let event = Event::CommandCompleted { outcome };
                    let event = match server {
                        Some(server) => EventDraft::server(server, event),
                        None => EventDraft::daemon(event),
                    };
                    event.because(id)
                }
                Action::Forget { server } => EventDraft::server(server, Event::ServerRemoved).because(cause),
                Action::AnnounceStopping { trigger } => {
                    EventDraft::daemon(Event::DaemonStopping { trigger }).because(cause)
                }
                Action::AnnounceStopped { survivors } => {
                    EventDraft::daemon(Event::DaemonStopped { survivors }).because(cause)
                }
            };
            self.publish(event).await?;
        }
        self.remember();
        Ok(())
    }

    /// Failures are few and the file is tiny; it is written in place only when a count changed.
    fn remember(&mut self) {
        let failures = self.machine.failures();
        if failures == self.remembered {
            return;
        }
        if let Some(file) = &self.failure_file
            && let Err(error) = file.keep(&failures)
        {
            tracing::warn!(%error, "the failures of servers cannot be kept; a restart of the daemon forgets them");
        }
        self.remembered = failures;
    }

    async fn publish(&self, event: EventDraft) -> Result<(), SupervisorError> {
        Ok(self.events.publish(event).await?)
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
        SuperviseCommand::ActivateProfile { profile, .. } => {
            (None, CommandSummary::ActivateProfile { profile: profile.clone() })
        }
        SuperviseCommand::Reload { .. } => (None, CommandSummary::Reload),
        SuperviseCommand::ShutDown { .. } => (None, CommandSummary::ShutDown),
    }
}
