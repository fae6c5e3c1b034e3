//! The component: a thread of its own with its own runtime, in which the bus is followed and requests are served.
//!
//! The daemon's one thread would share its time between large bodies and the promise of readiness, so requests have another.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::{
    Bus, BusClosed, CommandSender, CommandSetId, Delivery, EventDraft, Inbox, Publisher, ReceivedCommand,
};
use llama_warden_component::{Component, Context, LaunchChange, LaunchTracker, Ports, Transition, Worker, next_task};
use llama_warden_config::{Fleet, RouterSettings};
use llama_warden_events::{
    Event, EvictionCause, HealthCommand, RefusalReason, Refused, RouteCommand, ServerId, StopReason, SuperviseCommand,
    Uptime,
};
use llama_warden_http_server::{BindError, ServeLimits, serve};
use llama_warden_slot_keeper::{AfterSave, CacheKeeper, EndedTurn, SlotKeeping, clear};
use llama_warden_state::{ReadyRecord, Snapshot};
use llama_warden_support::build_runtime;
use llama_warden_traffic::EvictedFor;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};

use crate::caller::Reach;
use crate::faults::{Fault, RouteFaultCode};
use crate::listener::{ListeningPlace, RouterListener, StartedListener};
use crate::models::{self, ModelFacts, ModelNotice};
use crate::refusals::{failed, refuse_before_restart, shutting_down, stopped};
use crate::request::RouterService;
use crate::shared::{RouterClients, Shared};
use llama_warden_gates::GateAction;
use llama_warden_targets::Directory;
use tasks::TaskResult;

/// The limits of the listener. Streams last for minutes, and clients keep connections between two requests.
const LIMITS: ServeLimits = ServeLimits {
    connections: 4096,
    kept_for_probes: 64,
    head_timeout: Duration::from_secs(60),
    // No server is left by then, so that only the ends of answers are on their way.
    drain: Duration::from_secs(1),
};

/// How long a launch that nobody checks gets no request after it has answered as if it were not ready.
const UNCHECKED: Duration = Duration::from_secs(1);

/// Relays requests to servers, by the model that they name.
#[derive(Debug)]
pub struct Router {
    settings: RouterSettings,
    listener: RouterListener,
    fleet: watch::Receiver<Fleet>,
    bus: Bus,
    clients: RouterClients,
    /// Has a folder for the slots of each server.
    slot_folders: Option<PathBuf>,
    /// Names under which a reverse proxy is reached.
    hosts: Vec<String>,
}

/// The router ended.
#[derive(Debug, thiserror::Error)]
pub enum RouterFailed {
    /// The bus is closed.
    #[error(transparent)]
    Bus(#[from] BusClosed),
    /// Its thread or its runtime cannot be started.
    #[error("cannot start the router's thread")]
    Thread(#[source] std::io::Error),
    /// The thread has ended without a result.
    #[error("the router's thread failed")]
    Panicked,
    /// It cannot listen.
    #[error(transparent)]
    Listen(#[from] BindError),
}

impl Router {
    /// Routes to the servers in force, by the rules of `[router]`, from where `listener` listens.
    ///
    /// Caches are kept in `slot_folders`, in a folder for each server; `None` keeps none. Files that an earlier run has left there are
    /// deleted, whether or not caches are kept from now on: the files are conversations.
    pub fn build(
        context: &Context,
        listener: RouterListener,
        clients: RouterClients,
        slot_folders: Option<PathBuf>,
    ) -> Self {
        if let Some(folders) = &slot_folders {
            clear(folders, &[]);
        }
        let (settings, fleet, bus) = (context.config().router().clone(), context.fleet(), context.bus().clone());
        let hosts = context.config().daemon().hosts.clone();
        Self { settings, listener, fleet, bus, clients, slot_folders, hosts }
    }

    /// Runs in a thread of its own, which sends the result.
    ///
    /// A plain function, since a future is compiled in the crate that polls it, with that crate's optimization: polled from here, all that
    /// a request runs through is optimized as this crate is, the servers and runtimes of others included. From `run`, which the daemon
    /// polls, it would be optimized for size like the daemon.
    #[inline(never)]
    fn start(
        self,
        place: ListeningPlace,
        ports: Ports<RouteCommand>,
        ended: oneshot::Sender<Result<(), RouterFailed>>,
    ) -> std::io::Result<()> {
        let run = move || match build_runtime("router-blocking") {
            Ok(runtime) => {
                let result = runtime.block_on(self.run_at(place, ports));
                runtime.shutdown_background();
                result
            }
            Err(error) => Err(RouterFailed::Thread(error)),
        };
        // The runtime belongs to the thread: one that is dropped here, where tasks run, panics.
        std::thread::Builder::new().name("router".to_owned()).spawn(move || drop(ended.send(run()))).map(drop)
    }

    /// Follows the bus and serves requests in this runtime, at the place where its listener is.
    async fn run_at(self, place: ListeningPlace, ports: Ports<RouteCommand>) -> Result<(), RouterFailed> {
        let Self { settings, fleet, bus, clients, slot_folders, mut hosts, .. } = self;
        let (notices, edges) = mpsc::unbounded_channel();
        let (turn_ended, turns) = mpsc::unbounded_channel();
        let keeper = slot_folders.map(|folders| CacheKeeper::new(folders, settings.keep_cache_size, turn_ended));
        let keeper = keeper.map(Arc::new);
        let open = settings.open || clients.keys.is_some();
        let own = (notices, ports.commands.clone(), ports.cancel.clone());
        let shared = Shared::new(settings, bus, clients, own, keeper.clone());
        shared.set_directory(Directory::new(&fleet.borrow(), shared.settings.default_model.clone()));
        let worker = RouterWorker {
            launches: LaunchTracker::new(fleet.clone()),
            fleet,
            shared: shared.clone(),
            events: ports.events.clone(),
            commands: ports.commands.clone(),
            edges,
            slots: keeper.map(|keeper| SlotKeeping::new(keeper, shared.bus.clone(), ports.events.clone())),
            turns,
            tasks: JoinSet::new(),
        };
        let (cancel, started) = (ports.cancel.clone(), place.start()?);
        let serving = async move {
            match started {
                StartedListener::Tcp(tcp) => {
                    hosts.push(tcp.host);
                    let reach = match (tcp.address.ip().is_loopback(), open) {
                        (true, _) => Reach::Loopback { hosts: hosts.into() },
                        (false, true) => Reach::Open,
                        (false, false) => Reach::Closed,
                    };
                    tracing::info!(address = %tcp.address, "the router listens");
                    serve(tcp.listener, RouterService { shared, reach }, LIMITS, cancel).await;
                }
                StartedListener::Unix(socket) => {
                    serve(socket, RouterService { shared, reach: Reach::Local }, LIMITS, cancel).await;
                }
            }
        };
        let (driven, ()) = tokio::join!(ports.drive(worker), serving);
        driven
    }
}

impl Component for Router {
    const NAME: &'static str = "router";
    const SENDS: &'static [CommandSetId] =
        &[CommandSetId::of::<SuperviseCommand>(), CommandSetId::of::<HealthCommand>()];

    type Command = RouteCommand;
    type Error = RouterFailed;

    async fn run(mut self, ports: Ports<RouteCommand>) -> Result<(), RouterFailed> {
        let Some(place) = self.listener.take_place() else {
            release_all(ports).await;
            return Ok(());
        };
        let (ended, result) = oneshot::channel();
        self.start(place, ports, ended).map_err(RouterFailed::Thread)?;
        result.await.unwrap_or(Err(RouterFailed::Panicked))
    }
}

/// Answers the supervisor where nothing listens: no request is in flight, so that every server is released at once. It follows no
/// event, asks no server, and keeps nothing.
async fn release_all(ports: Ports<RouteCommand>) {
    let (_, mut commands) = ports.inbox.split();
    loop {
        tokio::select! {
            command = commands.recv() => command.accept(None),
            () = ports.cancel.cancelled() => return,
        }
    }
}

struct RouterWorker {
    launches: LaunchTracker<()>,
    fleet: watch::Receiver<Fleet>,
    shared: Arc<Shared>,
    events: Publisher,
    commands: CommandSender,
    edges: mpsc::UnboundedReceiver<GateAction>,
    /// Where slots can be kept.
    slots: Option<SlotKeeping>,
    turns: mpsc::UnboundedReceiver<EndedTurn>,
    /// What takes a while: keys are read, slots are asked for, commands are answered.
    tasks: JoinSet<TaskResult>,
}

/// Wakes the component, like events.
enum RouterInput {
    Edge(GateAction),
    Task(Result<TaskResult, JoinError>),
    TurnEnded(EndedTurn),
    FleetChanged,
}

impl Worker for RouterWorker {
    type Command = RouteCommand;
    type Error = RouterFailed;
    type Input = RouterInput;

    async fn on_start(&mut self, snapshot: &Snapshot, _: Uptime) -> Result<(), RouterFailed> {
        let changes = self.launches.on_snapshot(snapshot);
        self.on_changes(changes);
        Ok(())
    }

    async fn on_event(&mut self, delivery: Delivery, _: Uptime) -> Result<(), RouterFailed> {
        let changes = self.launches.on_event(&delivery);
        if let Some(slots) = &mut self.slots {
            slots.on_event(&delivery);
        }
        self.on_changes(changes);
        self.tell_models(&delivery);
        match &delivery {
            Delivery::Event(envelope) => {
                let Some(server) = &envelope.server else { return Ok(()) };
                match &envelope.event {
                    Event::EvictionPlanned { victims, because } => {
                        self.shared.traffic.server(server).room_is_made();
                        victims.iter().for_each(|victim| self.evicted(victim, evicted_for(*because)));
                    }
                    Event::StopBegan { reason: StopReason::Idle, .. } => self.evicted(server, EvictedFor::Idle),
                    Event::StopBegan { reason: StopReason::Unloaded, .. } => self.evicted(server, EvictedFor::Unload),
                    Event::ReadyReached { via, startup_seconds } => {
                        let ready = ReadyRecord { via: *via, startup_seconds: *startup_seconds };
                        if let Some(took) = ready.load_time() {
                            self.shared.note_load(server, took);
                        }
                    }
                    Event::HealthProbed { ok: true, .. } => {
                        if let Some(incarnation) = envelope.incarnation {
                            self.shared.act(|gates, now| gates.resume(server, incarnation, now));
                        }
                    }
                    // Whether another launch follows, the answer to the demand tells.
                    Event::ServerFailed { .. } => self.shared.act(|gates, now| gates.tell_again(server, now)),
                    Event::RestartAbandoned { because, .. } => self.shared.refuse(server, &failed(server, because)),
                    Event::RestartScheduled { .. } => refuse_before_restart(&self.shared, server),
                    // Who has asked for a start meanwhile wants the next launch, and so do those that wait.
                    Event::StopBegan { reason: StopReason::Requested, .. } if self.stays_stopped(server) => {
                        self.shared.refuse(server, &stopped(server));
                    }
                    _ => {}
                }
            }
            Delivery::Gap { snapshot, .. } => {
                for (server, record) in &snapshot.servers {
                    match &record.restart_abandoned {
                        Some(because) => self.shared.refuse(server, &failed(server, because)),
                        None => refuse_before_restart(&self.shared, server),
                    }
                }
            }
        }
        Ok(())
    }

    async fn on_command(&mut self, command: ReceivedCommand<RouteCommand>, now: Uptime) -> Result<(), RouterFailed> {
        let (command, _, answer) = command.split();
        match command {
            RouteCommand::ReleaseServer { server, incarnation, drain } => {
                let mut in_use = None;
                self.shared.act(|gates, _| match gates.release(&server, incarnation, drain, now) {
                    Ok(actions) => actions,
                    Err(left) => {
                        in_use = Some(left);
                        Vec::new()
                    }
                });
                if let Some(left) = in_use {
                    answer(Err(Refused::new(RefusalReason::InUse, format!("{left} requests are in flight"))));
                    return Ok(());
                }
                let accept = move || answer(Ok(llama_warden_bus::Accepted { id: None }));
                // With a time to drain, the event says when it is released.
                match self.slots {
                    Some(_) if drain.is_zero() => {
                        self.save(&server, incarnation, AfterSave::Answer(Box::new(accept))).await?;
                    }
                    _ => accept(),
                }
            }
            RouteCommand::ReopenServer { server, incarnation } => {
                if let Some(slots) = &self.slots {
                    slots.forget(&server);
                }
                self.shared.act(|gates, now| gates.reopen(&server, incarnation, now));
                answer(Ok(llama_warden_bus::Accepted { id: None }));
            }
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Uptime> {
        self.shared.next_deadline()
    }

    async fn on_deadline(&mut self, now: Uptime) -> Result<(), RouterFailed> {
        self.shared.act(|gates, _| gates.on_deadline(now));
        Ok(())
    }

    async fn next_input(&mut self) -> RouterInput {
        tokio::select! {
            Some(edge) = self.edges.recv() => RouterInput::Edge(edge),
            ended = next_task(&mut self.tasks) => RouterInput::Task(ended),
            Some(ended) = self.turns.recv() => RouterInput::TurnEnded(ended),
            Ok(()) = self.fleet.changed() => RouterInput::FleetChanged,
        }
    }

    async fn on_input(&mut self, input: RouterInput, _: Uptime) -> Result<(), RouterFailed> {
        match input {
            RouterInput::Edge(edge) => self.tell(edge).await?,
            RouterInput::FleetChanged => {
                let directory =
                    Directory::new(&self.fleet.borrow_and_update(), self.shared.settings.default_model.clone());
                self.shared.set_directory(directory);
            }
            RouterInput::TurnEnded(ended) => {
                if let Some(slots) = &mut self.slots {
                    slots.on_turn(&ended).await?;
                }
            }
            RouterInput::Task(Ok(result)) => self.on_task(result).await?,
            // A save for which there is no time any more.
            RouterInput::Task(Err(error)) if error.is_cancelled() => {}
            RouterInput::Task(Err(error)) => tracing::error!(%error, "a task of the router failed"),
        }
        Ok(())
    }

    async fn on_cancel(&mut self, _: &mut Inbox<RouteCommand>) -> Result<(), RouterFailed> {
        let fault = shutting_down();
        let fleet = self.fleet.borrow().clone();
        fleet.iter().for_each(|spec| self.shared.refuse(&spec.id, &fault));
        // Fails where nobody follows.
        let _ = self.shared.models.send(ModelNotice::End);
        if let Some(slots) = &self.slots {
            slots.clear().await;
        }
        Ok(())
    }
}

impl RouterWorker {
    fn evicted(&self, server: &ServerId, because: EvictedFor) {
        self.shared.traffic.server(server).evict(because);
    }

    /// Tells those that follow models, where somebody does.
    fn tell_models(&self, delivery: &Delivery) {
        if self.shared.models.receiver_count() == 0 {
            return;
        }
        let notice = match delivery {
            Delivery::Gap { .. } => Some(models::reload()),
            Delivery::Event(envelope) => {
                let launch = envelope.server.as_ref().and_then(|server| self.launches.get(server));
                models::notice(envelope, launch.is_some_and(|launch| launch.process.is_some()))
            }
        };
        notice.map(|notice| self.shared.models.send(notice));
    }

    /// Tells them that a launch is ready, with what it said of itself.
    fn tell_loaded(&self, server: &ServerId, facts: &ModelFacts) {
        let (directory, snapshot) = (self.shared.directory(), self.shared.bus.snapshot());
        let record = snapshot.servers.get(server);
        if let (Ok(named), Some(record)) = (directory.find(Some(server.as_str())), record) {
            // Fails where nobody follows.
            let _ = self.shared.models.send(models::loaded(named, record, facts));
        }
    }

    /// Whether a person has stopped a server, and nobody has asked for it since.
    fn stays_stopped(&self, server: &ServerId) -> bool {
        self.shared.bus.snapshot().servers.get(server).is_none_or(|record| record.stopped_on_request)
    }

    fn on_changes(&mut self, changes: Vec<LaunchChange<()>>) {
        for LaunchChange { server, incarnation, transition, .. } in changes {
            match transition {
                Transition::BecameReady(_) => self.reach(server, incarnation),
                // One that has not been opened so far is opened by whoever prepares it.
                Transition::ReadyRegained => {
                    if self.shared.upstream(&server, incarnation).is_some() {
                        self.shared.act(|gates, now| gates.open(&server, incarnation, now));
                    }
                }
                Transition::ReadyLost => {
                    self.shared.act(|gates, now| gates.pause(&server, incarnation, now));
                }
                Transition::StopBegan(_) | Transition::Failed(_) => self.shared.close(&server, incarnation),
                Transition::Ended { .. } => {
                    self.shared.close(&server, incarnation);
                    self.shared.act(|gates, now| gates.tell_again(&server, now));
                    if let Some(slots) = &mut self.slots {
                        slots.on_ended(&server, incarnation);
                    }
                }
                Transition::Removed => {
                    if let Some(slots) = &self.slots {
                        slots.forget(&server);
                    }
                    let fault = Fault::new(RouteFaultCode::ModelNotFound, format!("`{server}` is configured no more"));
                    self.shared.remove(&server, &fault);
                    self.shared.traffic.forget(&server);
                }
                Transition::Began | Transition::Spawned(_) | Transition::HookCompleted(..) => {}
            }
        }
    }

    /// Tells others what the gates say.
    async fn tell(&mut self, edge: GateAction) -> Result<(), BusClosed> {
        let draft = match edge {
            GateAction::Want { server, oldest, priority } => {
                let reply =
                    self.commands.post(SuperviseCommand::WantServer { server: server.clone(), oldest, priority });
                self.tasks.spawn(async move {
                    match reply.await {
                        Ok(_) => TaskResult::Accepted,
                        Err(refused) => TaskResult::Refused(server, refused),
                    }
                });
                return Ok(());
            }
            GateAction::Unwant(server) => {
                // Refused where the server is gone, and then nobody is interested.
                drop(self.commands.post(SuperviseCommand::UnwantServer { server }));
                return Ok(());
            }
            GateAction::Look(server, incarnation) => {
                let reply = self.commands.post(HealthCommand::CheckServer { server: server.clone(), incarnation });
                self.tasks.spawn(async move {
                    if reply.await.is_ok() {
                        return TaskResult::Accepted;
                    }
                    tokio::time::sleep(UNCHECKED).await;
                    TaskResult::Unchecked(server, incarnation)
                });
                return Ok(());
            }
            GateAction::Released { server, incarnation, left } => {
                let draft = EventDraft::incarnation(server.clone(), incarnation, Event::ServerReleased { left });
                if self.slots.is_some() && left == 0 {
                    return self.save(&server, incarnation, AfterSave::Tell(draft)).await;
                }
                draft
            }
            GateAction::UseBegan(server, incarnation) => EventDraft::incarnation(server, incarnation, Event::UseBegan),
            GateAction::UseEnded(server, incarnation, last_used) => {
                EventDraft::incarnation(server, incarnation, Event::UseEnded { last_used })
            }
            // The next deadline is asked for after each input.
            GateAction::Admit(..) | GateAction::Rearm => return Ok(()),
        };
        self.events.publish(draft).await
    }
}

const fn evicted_for(because: EvictionCause) -> EvictedFor {
    match because {
        EvictionCause::Memory => EvictedFor::Memory,
        EvictionCause::Count => EvictedFor::Count,
        EvictionCause::Group => EvictedFor::Group,
        EvictionCause::Combination => EvictedFor::Combination,
    }
}

mod tasks;
#[cfg(test)]
mod tests;
