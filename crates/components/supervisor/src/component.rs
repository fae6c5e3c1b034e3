//! The component: receives commands, events and answers, and performs what the machine returns.
//!
//! Invariants:
//!
//! * A command is acknowledged only after its `CommandAccepted` is in the snapshot, so that a sender can find it there.
//! * Nothing here waits for the launcher, the terminator, a disk or a GPU: replies, estimates, readings and configurations
//!   come back as inputs of the loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::{
    Accepted, BusClosed, CommandRequest, CommandSender, CommandSetId, Delivery, EventDraft, Publisher, ReceivedCommand,
};
use llama_warden_component::{Component, Context, Ports, Worker, next_task};
use llama_warden_config::{AdmissionPolicy, Fleet, RouterSettings};
use llama_warden_events::{
    CommandOutcome, CommandSet, Event, FailureReason, Incarnation, LaunchCommand, ProfileCard, RefusalReason, Refused,
    RouteCommand, Seq, ServerId, ServerTotals, SuperviseCommand, TerminateCommand, Uptime,
};
use llama_warden_memory::MemoryProbe;
use llama_warden_state::{Histogram, Snapshot};
use llama_warden_support::{BlockingError, fail_point};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::action::SupervisorAction;
use crate::changes::{ChangeQueue, QueuedChange, ResolvedChange};
use crate::file_watches::FileWatches;
use crate::kept::KeptDecisions;
use crate::machine::SupervisorMachine;
use crate::memory_queries::{MemoryAnswer, MemoryQueries};
use crate::policy::{RoutingPolicy, ServerPolicy};
use crate::settings::SupervisorSettings;
use crate::switch::{FleetActivity, FleetSource, Resolved, SwitchKind, difference};

/// Launches every enabled server, restarts it by its policy, carries out commands of people, and stops every server at the
/// end.
#[derive(Debug)]
pub struct Supervisor {
    settings: SupervisorSettings,
}

/// Why the supervisor ended.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// The bus is closed.
    #[error("could not publish a decision")]
    Bus(#[from] BusClosed),
    /// Resolving a configuration panicked.
    #[error("could not resolve a configuration")]
    Source(#[source] BlockingError),
}

impl Supervisor {
    /// Runs the servers of `fleet` within the limits of `[start]` and `[router]`; `source` resolves changes.
    pub fn build(
        context: &Context,
        fleet: watch::Sender<Fleet>,
        source: FleetSource,
        memory_probe: Arc<dyn MemoryProbe>,
    ) -> Self {
        Self::new(SupervisorSettings::configured(context, fleet, source, memory_probe))
    }

    /// With servers of which an earlier daemon left a process, the numbers of their launches, and what was counted of servers.
    #[must_use]
    pub fn adopting(mut self, adopted: Vec<(ServerId, Incarnation)>, totals: BTreeMap<ServerId, ServerTotals>) -> Self {
        (self.settings.adopted, self.settings.totals) = (adopted, totals);
        self
    }

    /// A supervisor that launches nothing before it runs.
    pub const fn new(settings: SupervisorSettings) -> Self {
        Self { settings }
    }
}

impl Component for Supervisor {
    const NAME: &'static str = "supervisor";
    const SENDS: &'static [CommandSetId] = &[
        CommandSetId::of::<LaunchCommand>(),
        CommandSetId::of::<TerminateCommand>(),
        CommandSetId::of::<RouteCommand>(),
    ];
    type Command = SuperviseCommand;
    type Error = SupervisorError;

    async fn run(self, ports: Ports<SuperviseCommand>) -> Result<(), SupervisorError> {
        let (kept, saving) = KeptDecisions::load(self.settings.state_dir.as_deref()).await;
        let worker = SupervisorWorker::new(self.settings, kept, &ports);
        let (ended, ()) = tokio::join!(ports.drive(worker), saving);
        ended
    }
}

/// What was asked of another component.
enum AskedCommand {
    Launch(ServerId, Incarnation),
    Release(ServerId, Incarnation, Duration),
    /// A stop, or the way of requests to be opened again: the answer does not matter.
    Other,
}

/// What was asked, and the reply of its owner.
type CommandReply = (AskedCommand, Result<Accepted, Refused>);

struct SupervisorWorker {
    machine: SupervisorMachine,
    adopted: Vec<(ServerId, Incarnation)>,
    totals: BTreeMap<ServerId, ServerTotals>,
    fleet: watch::Sender<Fleet>,
    router: Option<RouterSettings>,
    memory: AdmissionPolicy,
    profiles: Vec<ProfileCard>,
    changes: ChangeQueue,
    kept: KeptDecisions,
    events: Publisher,
    commands: CommandSender,
    replies: JoinSet<CommandReply>,
    memory_queries: MemoryQueries,
    file_watches: FileWatches,
}

/// Wakes the supervisor, like events, commands and deadlines.
enum SupervisorInput {
    /// The reply to a command that it sent.
    Replied(Result<CommandReply, JoinError>),
    /// The source resolved a change of configuration or profile.
    Resolved(Result<ResolvedChange, BlockingError>),
    /// An estimate or a reading of memory.
    Memory(MemoryAnswer),
    /// The file that a launch failed for has changed.
    FileChanged(ServerId, Incarnation),
}

impl Worker for SupervisorWorker {
    type Command = SuperviseCommand;
    type Error = SupervisorError;
    type Input = SupervisorInput;

    /// Publishes the configuration and launches every enabled server.
    async fn on_start(&mut self, _: &Snapshot, _: Uptime) -> Result<(), SupervisorError> {
        let (fleet, mut totals) = (self.fleet.borrow().clone(), std::mem::take(&mut self.totals));
        self.apply_routing(&fleet);
        let mut down = self.kept.down(&fleet);
        // The daemon was killed in the moment of a stop: the process is there.
        down.retain(|(server, _)| self.adopted.iter().all(|(adopted, _)| adopted != server));
        for spec in fleet.iter() {
            let failures = self.kept.failures(&spec.id);
            self.machine.add(spec.id.clone(), ServerPolicy::from(&**spec), failures);
            self.publish(EventDraft::server(spec.id.clone(), Event::ServerConfigured { card: spec.card().into() }))
                .await?;
            // Before anything else about it, so that no counter is ever seen to go back.
            if let Some(totals) = totals.remove(&spec.id).map(Box::new) {
                if let Some(load) = usual_load(&totals) {
                    self.machine.note_usual_load(&spec.id, load);
                }
                self.publish(EventDraft::server(spec.id.clone(), Event::TotalsRestored { totals })).await?;
            }
        }
        self.publish(EventDraft::daemon(Event::ProfilesConfigured { profiles: self.profiles.clone() })).await?;
        let mut actions = Vec::new();
        for (server, incarnation) in std::mem::take(&mut self.adopted) {
            actions.extend(self.machine.adopt(&server, incarnation));
        }
        for (server, failed) in &down {
            actions.extend(self.machine.leave_down(server, failed.clone()));
        }
        let is_left_down = |id: &ServerId| down.iter().any(|(server, _)| server == id);
        let started = fleet.iter().filter(|spec| spec.enabled && !is_left_down(&spec.id));
        actions.extend(self.machine.start_all(started.map(|spec| &spec.id)));
        self.perform(actions, None).await
    }

    async fn on_event(&mut self, delivery: Delivery, _: Uptime) -> Result<(), SupervisorError> {
        let (actions, cause) = match delivery {
            Delivery::Event(envelope) => {
                if let (Some(server), Event::ServerFailed { reason: FailureReason::PortInUse, .. }) =
                    (&envelope.server, &envelope.event)
                {
                    self.changes.push_port(server.clone());
                    self.begin_change();
                }
                (self.machine.on_event(&envelope), Some(envelope.seq))
            }
            Delivery::Gap { snapshot, .. } => (self.machine.on_gap(&snapshot), None),
        };
        self.perform(actions, cause).await
    }

    async fn on_command(
        &mut self,
        request: ReceivedCommand<SuperviseCommand>,
        now: Uptime,
    ) -> Result<(), SupervisorError> {
        if let Some(refused) = self.machine.refusal(&request.command, now) {
            request.refuse(refused);
            return Ok(());
        }
        let Some(request) = self.changes.push(request) else {
            self.begin_change();
            return Ok(());
        };
        if let SuperviseCommand::WantServer { .. } | SuperviseCommand::UnwantServer { .. } = &request.command {
            // No event for each: they follow requests.
            let (command, cause) = (request.command.clone(), request.cause);
            request.accept(None);
            let actions = self.machine.on_command(command, Seq::default(), now);
            return self.perform(actions, cause).await;
        }
        if let SuperviseCommand::ShutDown { .. } | SuperviseCommand::HandOver { .. } = &request.command {
            // A shutdown waits for no change, and their senders learn at once that none will be applied.
            let ended = Refused::new(RefusalReason::ShuttingDown, "the daemon is shutting down");
            self.changes.cancel().for_each(|change| change.refuse(ended.clone()));
        }
        let id = self.accept(&request).await?;
        if let SuperviseCommand::HandOver { .. } = &request.command {
            fail_point("hand-over-accepted");
        }
        let actions = self.machine.on_command(request.command.clone(), id, now);
        request.accept(Some(id));
        self.perform(actions, Some(id)).await
    }

    fn next_deadline(&self) -> Option<Uptime> {
        [self.machine.next_deadline(), self.changes.next_look()].into_iter().flatten().min()
    }

    async fn on_deadline(&mut self, now: Uptime) -> Result<(), SupervisorError> {
        self.changes.on_deadline(now);
        self.begin_change();
        let actions = self.machine.on_deadline(now);
        self.perform(actions, None).await
    }

    async fn next_input(&mut self) -> SupervisorInput {
        tokio::select! {
            reply = next_task(&mut self.replies) => SupervisorInput::Replied(reply),
            resolved = self.changes.next() => SupervisorInput::Resolved(resolved),
            answer = self.memory_queries.next() => SupervisorInput::Memory(answer),
            (server, incarnation) = self.file_watches.next() => SupervisorInput::FileChanged(server, incarnation),
        }
    }

    async fn on_input(&mut self, input: SupervisorInput, now: Uptime) -> Result<(), SupervisorError> {
        let actions = match input {
            // A router that has ended has nothing in flight: that refusal is an answer too.
            SupervisorInput::Replied(Ok((AskedCommand::Release(server, incarnation, drain), answer))) => {
                let answer = answer.as_ref().map(|_| ());
                self.machine.on_release_answered(&server, (incarnation, drain), answer, now)
            }
            SupervisorInput::Replied(Ok((AskedCommand::Launch(server, incarnation), Err(refused)))) => {
                tracing::warn!(%server, %incarnation, %refused, "launch refused");
                self.machine.on_launch_refused(&server, incarnation, &refused, now)
            }
            // Only a refused launch matters. A refused stop named a launch that is over, and the event of its end is already on
            // the way.
            SupervisorInput::Replied(_) => return Ok(()),
            SupervisorInput::Resolved(resolved) => {
                return self.apply_change(resolved.map_err(SupervisorError::Source)?, now).await;
            }
            SupervisorInput::Memory(MemoryAnswer::Requirement { server, estimate_id, requirement }) => {
                self.machine.on_estimated(&server, estimate_id, requirement, now)
            }
            SupervisorInput::FileChanged(server, incarnation) => {
                self.machine.on_file_changed(&server, incarnation, now)
            }
            SupervisorInput::Memory(MemoryAnswer::Reading(reading)) => self.machine.on_memory_read(&reading, now),
        };
        self.perform(actions, None).await
    }
}

impl SupervisorWorker {
    fn new(settings: SupervisorSettings, kept: KeptDecisions, ports: &Ports<SuperviseCommand>) -> Self {
        Self {
            router: settings.router,
            memory: settings.limits.memory,
            machine: SupervisorMachine::new(settings.limits, settings.seed),
            adopted: settings.adopted,
            totals: settings.totals,
            kept,
            fleet: settings.fleet,
            profiles: settings.profiles,
            changes: ChangeQueue::new(settings.source),
            events: ports.events.clone(),
            commands: ports.commands.clone(),
            replies: JoinSet::new(),
            memory_queries: MemoryQueries::new(settings.memory_probe),
            file_watches: FileWatches::default(),
        }
    }

    /// Applies `[router]` to the servers of a fleet.
    fn apply_routing(&mut self, fleet: &Fleet) {
        if let Some(router) = &self.router {
            self.machine.set_routing(RoutingPolicy::of(router, self.memory, fleet));
        }
    }

    /// Begins to resolve the next change, unless one is being resolved.
    fn begin_change(&mut self) {
        let Self { changes, machine, fleet, .. } = self;
        changes.start_next(|| FleetActivity::of(machine, &fleet.borrow()));
    }

    /// Applies a change that was resolved, once for each command that asked for it: each gets its own `CommandAccepted` and
    /// events. After the first of several reloads, the difference is empty.
    async fn apply_change(
        &mut self,
        (mut changes, resolved): ResolvedChange,
        now: Uptime,
    ) -> Result<(), SupervisorError> {
        if changes.is_empty() {
            match resolved {
                Ok(moved) => self.move_servers(moved, now).await?,
                Err(refused) => tracing::debug!(%refused, "a server keeps its port"),
            }
            self.begin_change();
            return Ok(());
        }
        if resolved.is_ok()
            && changes.iter().any(|change| matches!(change.request.command, SuperviseCommand::Reload { .. }))
        {
            changes.extend(self.changes.take_doubtful());
        }
        for change in changes {
            match resolved.clone() {
                Ok(resolved) => {
                    let QueuedChange { request, .. } = change;
                    let id = self.accept(&request).await?;
                    let command = request.command.clone();
                    request.accept(Some(id));
                    self.switch(&command, id, resolved, now).await?;
                }
                Err(refused) if refused.reason == RefusalReason::DoubtfulConfiguration => {
                    match self.changes.look_again(change, now) {
                        Some(QueuedChange { request, .. }) => self.refuse_change(request, refused).await?,
                        None => tracing::info!(%refused, "looking at the configuration again in a moment"),
                    }
                }
                Err(refused) => self.refuse_change(change.request, refused).await?,
            }
        }
        self.begin_change();
        Ok(())
    }

    /// Takes a fleet in which servers have other ports, and nothing else is changed.
    async fn move_servers(&mut self, next: Resolved, now: Uptime) -> Result<(), SupervisorError> {
        let before = self.fleet.send_replace(next.fleet.clone());
        for spec in next.fleet.iter() {
            let Some(old) = before.get(spec.id.as_str()).filter(|old| old.port != spec.port) else { continue };
            tracing::warn!(server = %spec.id, from = old.port, to = spec.port, "another process has the port; the server moves");
            self.publish(EventDraft::server(spec.id.clone(), Event::ServerConfigured { card: spec.card().into() }))
                .await?;
            let actions = self.machine.on_moved(&spec.id, now);
            self.perform(actions, None).await?;
        }
        Ok(())
    }

    /// Refuses a change. What is wrong with a configuration file is an event too: nobody may wait for the answer.
    async fn refuse_change(
        &self,
        request: ReceivedCommand<SuperviseCommand>,
        refused: Refused,
    ) -> Result<(), SupervisorError> {
        let detail = match refused.reason {
            RefusalReason::InvalidConfiguration => Some(refused.detail.clone()),
            RefusalReason::DoubtfulConfiguration => {
                Some(format!("{}; `llama-warden reload --force` applies it all the same", refused.detail))
            }
            _ => None,
        };
        if let (SuperviseCommand::Reload { trigger, .. }, Some(detail)) = (&request.command, detail) {
            let trigger = trigger.clone();
            self.publish(EventDraft::daemon(Event::ConfigurationRefused { trigger, detail })).await?;
        }
        request.refuse(refused);
        Ok(())
    }

    async fn accept(&self, request: &ReceivedCommand<SuperviseCommand>) -> Result<Seq, SupervisorError> {
        let (server, cause) = (request.command.server().cloned(), request.cause);
        let accepted =
            Event::CommandAccepted { command: request.command.summary(), trace: request.trace.map(Box::new) };
        Ok(self.events.publish_acked(EventDraft { server, incarnation: None, cause, event: accepted }).await?)
    }

    async fn switch(
        &mut self,
        command: &SuperviseCommand,
        id: Seq,
        next: Resolved,
        now: Uptime,
    ) -> Result<(), SupervisorError> {
        let activity = FleetActivity::of(&self.machine, &self.fleet.borrow());
        let kind = match command {
            SuperviseCommand::ActivateProfile { .. } => SwitchKind::Profile,
            _ => SwitchKind::Reload,
        };
        let difference = difference(&activity, &next, kind);
        let planned = Event::SwitchPlanned { plan: difference.plan.into() };
        self.publish(EventDraft::daemon(planned).because(id)).await?;
        fail_point("switch-planned");
        if let SuperviseCommand::ActivateProfile { dry_run: true, .. } = command {
            let outcome = CommandOutcome::Ready;
            return self.publish(EventDraft::daemon(Event::CommandCompleted { outcome }).because(id)).await;
        }
        // Before the machine acts: the launcher and the others read the specification of a launch from here.
        self.fleet.send_replace(next.fleet.clone());
        for spec in next.fleet.iter() {
            let card = spec.card();
            if activity.fleet.get(spec.id.as_str()).is_none_or(|old| old.card() != card) {
                let configured = Event::ServerConfigured { card: card.into() };
                self.publish(EventDraft::server(spec.id.clone(), configured).because(id)).await?;
            }
        }
        let events = match command {
            SuperviseCommand::Reload { trigger, .. } => vec![
                Event::ConfigurationReloaded { trigger: trigger.clone() },
                Event::ProfilesConfigured { profiles: next.profiles },
            ],
            SuperviseCommand::ActivateProfile { .. } => vec![Event::ProfileActivated { profile: next.profile }],
            _ => Vec::new(),
        };
        for event in events {
            self.publish(EventDraft::daemon(event).because(id)).await?;
        }
        self.apply_routing(&next.fleet);
        fail_point("switch-applied");
        let actions = self.machine.switch(&difference.servers, Some(id), now);
        self.perform(actions, Some(id)).await
    }

    async fn perform(&mut self, actions: Vec<SupervisorAction>, cause: Option<Seq>) -> Result<(), SupervisorError> {
        for action in actions {
            match action {
                SupervisorAction::Launch { server, incarnation } => {
                    self.file_watches.forget(&server);
                    let command = LaunchCommand::LaunchServer { server: server.clone(), incarnation };
                    self.ask(AskedCommand::Launch(server, incarnation), command, cause);
                }
                SupervisorAction::Terminate { server, incarnation, reason, grace } => {
                    let command = TerminateCommand::TerminateServer { server, incarnation, reason, grace };
                    self.ask(AskedCommand::Other, command, cause);
                }
                SupervisorAction::Release { server, incarnation, drain } => {
                    let command = RouteCommand::ReleaseServer { server: server.clone(), incarnation, drain };
                    self.ask(AskedCommand::Release(server, incarnation, drain), command, cause);
                }
                SupervisorAction::Reopen { server, incarnation } => {
                    self.ask(AskedCommand::Other, RouteCommand::ReopenServer { server, incarnation }, cause);
                }
                SupervisorAction::EstimateMemory { server, estimate_id } => {
                    let spec = self.fleet.borrow().get(server.as_str()).cloned();
                    self.memory_queries.estimate(server, estimate_id, spec);
                }
                SupervisorAction::WatchFile { server, incarnation, file } => {
                    let spec = self.fleet.borrow().get(server.as_str()).cloned();
                    if let Some(spec) = spec {
                        self.file_watches.watch(&spec, incarnation, file);
                    }
                }
                SupervisorAction::ReadMemory { pids } => self.memory_queries.read(pids),
                SupervisorAction::Publish { server, incarnation, event } => {
                    self.publish(EventDraft { server, incarnation, cause, event }).await?;
                }
                SupervisorAction::Complete { server, id, outcome } => {
                    let event = Event::CommandCompleted { outcome };
                    self.publish(EventDraft { server, incarnation: None, cause: Some(id), event }).await?;
                }
            }
        }
        self.kept.update(&self.machine, &self.fleet);
        Ok(())
    }

    /// Sends a command to another component; its reply comes as an input.
    fn ask<C: CommandSet>(&mut self, asked: AskedCommand, command: C, cause: Option<Seq>) {
        let reply = self.commands.post(CommandRequest::new(command).because(cause));
        self.replies.spawn(async move { (asked, reply.await) });
    }

    async fn publish(&self, event: EventDraft) -> Result<(), SupervisorError> {
        Ok(self.events.publish(event).await?)
    }
}

/// How long a server usually loads, as earlier daemons have measured it.
fn usual_load(totals: &ServerTotals) -> Option<Duration> {
    let measured = Histogram::restored(Histogram::READY_SECONDS, totals.ready_seconds.as_ref()?)?;
    Duration::try_from_secs_f64(measured.mean()?).ok()
}
