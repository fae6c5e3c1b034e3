//! The component: receives commands, runs one task per launch, and publishes the last event of each.
//!
//! Only a launch's task signals and reaps its process. The loop passes orders to the task and waits for none of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::time::Duration;

use llama_warden_bus::{
    Accepted, Bus, BusClosed, CommandSetId, Delivery, EventDraft, Inbox, OutputLane, Publisher, ReceivedCommand,
};
use llama_warden_component::{Component, Context, LaunchChange, LaunchTracker, Ports, Transition, Worker, next_task};
use llama_warden_config::{Fleet, OnDaemonDeath, ServerSpec};
use llama_warden_dialects::DialectSet;
use llama_warden_events::{
    BootId, Event, HookCommand, HookOutcome, HookPoint, Incarnation, LaunchCommand, RefusalReason, Refused, ServerId,
    ServerTotals, Signal, Uptime,
};
use llama_warden_plugin_files::PluginSetError;
use llama_warden_state::Snapshot;
use llama_warden_state_files::{KeptTotals, TotalsByServer, TotalsFile};
use llama_warden_support::{Interner, fail_point};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use crate::launch::context::{EndedLaunch, Launch, LaunchReporter, LaunchResources};
use crate::launch::dialect_reloader::DialectReloader;
use crate::launch::held::HeldLaunches;
use crate::launch::identify::BinaryCache;
use crate::launch::orders::{
    LaunchHandle, ListenerInquiry, MAX_QUEUED_SIGNALS, SignalOrder, Undelivered, launch_channel,
};
use crate::launch::task::LaunchPreconditions;
use crate::launch::totals::{self, EventTotals};
use llama_warden_processes::leftovers;
use llama_warden_processes::process_handle;
use llama_warden_processes::reaper;
use llama_warden_processes::spawner::Spawner;
use llama_warden_processes::sweep::Sweep;

/// Time from KILL to the end of a launch when the daemon ends. A process that is still there then is stuck in the kernel, or may
/// not be killed by us: a longer wait does not help.
const KILL_TIMEOUT: Duration = Duration::from_secs(3);
/// Time between TERM and KILL for a process whose server is no longer configured.
const UNKNOWN_GRACE: Duration = Duration::from_secs(10);
/// Time to leave every process to the next daemon.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Time to kill the processes of an earlier run of the daemon.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(5);

/// The component that owns the processes of all servers.
#[derive(Debug)]
pub struct Launcher {
    fleet: watch::Receiver<Fleet>,
    lane: OutputLane,
    settings: LauncherSettings,
    acquired: Option<Acquired>,
}

/// What the kernel or the disk may refuse at the start.
#[derive(Debug)]
struct Acquired {
    held: HeldLaunches,
    totals: EventTotals,
    /// Notices of ended children; `None` in a process that gets no orphans.
    orphans: Option<tokio::signal::unix::Signal>,
}

/// The parts of the daemon that the launcher makes processes with.
#[derive(Debug, Clone)]
pub struct LauncherSettings {
    /// The id of this run of the daemon; part of every child's launch tag.
    pub boot: BootId,
    /// Runs programs.
    pub spawner: Spawner,
    /// Whether servers outlive the daemon however it ends.
    pub outlive: bool,
    /// Tells what every server does, also between events.
    pub bus: Bus,
    /// The daemon's own environment, from which children inherit allowed names.
    pub environment: Vec<(OsString, OsString)>,
    /// The flag dialects in force at the start.
    pub dialects: DialectSet,
    /// The folder (absolute) from which dialects are reloaded before each launch; `None` reloads nothing.
    pub dialects_dir: Option<PathBuf>,
    /// The folder for the ids of earlier runs and the instance locks. Processes of earlier runs are killed at the start; `None`
    /// keeps no ids and kills nothing.
    pub state_dir: Option<PathBuf>,
}

/// An error that ends the launcher, and with it the daemon.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// The signal handler for ended children was not installed.
    #[error("cannot listen for ended children: {0}")]
    Orphans(#[source] io::Error),
    /// The boot ids cannot be written, so that after a crash of this run its processes could not be found.
    #[error("cannot write down this run in {}: {source}", state_dir.display())]
    StateDirectory {
        /// The state directory.
        state_dir: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The bus is closed.
    #[error("cannot exchange events: {0}")]
    Bus(#[from] BusClosed),
    /// The task of a launch panicked; the state of its process is unknown.
    #[error("a launch failed: {0}")]
    Launch(#[source] JoinError),
}

impl Launcher {
    /// Launches with the dialects of `llama-server.dialects-dir`, in the daemon's own environment, the programs that `spawner` runs.
    ///
    /// # Errors
    /// A file of the directory is refused.
    pub fn build(context: &Context, spawner: Spawner) -> Result<Self, PluginSetError> {
        let directory = context.config().dialects_dir();
        let settings = LauncherSettings {
            boot: context.boot(),
            spawner,
            outlive: context.config().daemon().on_daemon_death == OnDaemonDeath::Adopt,
            bus: context.bus().clone(),
            environment: std::env::vars_os().collect(),
            dialects: DialectSet::configured(directory)?,
            dialects_dir: directory.map(Path::to_owned),
            state_dir: Some(context.state_dir().to_owned()),
        };
        Ok(Self::new(context.fleet(), context.lane().clone(), settings))
    }

    /// A launcher for the servers in `fleet`; their output goes into `lane`.
    pub fn new(fleet: watch::Receiver<Fleet>, lane: OutputLane, settings: LauncherSettings) -> Self {
        Self { fleet, lane, settings, acquired: None }
    }

    /// Kills what an earlier run of the daemon left behind, writes down this run, and takes what the kernel may refuse. A daemon does
    /// so before it says that it is up; without it, the component does so as it begins to run.
    ///
    /// # Errors
    /// The state directory cannot be written, or the kernel gives no handler.
    pub async fn prepared(self) -> Result<Self, LauncherError> {
        let (launcher, acquired) = self.acquire().await?;
        Ok(Self { acquired: Some(acquired), ..launcher })
    }

    /// The servers of which an earlier daemon left a process, and the number of their launch. They are to be launched with that number.
    pub fn held(&self) -> Vec<(ServerId, Incarnation)> {
        self.acquired.iter().flat_map(|acquired| acquired.held.numbers()).collect()
    }

    /// What earlier daemons have counted of servers by their events. It is to be published.
    pub fn totals(&self) -> BTreeMap<ServerId, ServerTotals> {
        self.acquired.as_ref().map(|acquired| acquired.totals.clone()).unwrap_or_default()
    }

    async fn acquire(mut self) -> Result<(Self, Acquired), LauncherError> {
        if let Some(acquired) = self.acquired.take() {
            return Ok((self, acquired));
        }
        let (mut held, mut totals) = (HeldLaunches::default(), EventTotals::default());
        if let Some(state_dir) = self.settings.state_dir.clone() {
            leftovers::drop_common_names(&state_dir, Launch::shims(&state_dir)).await;
            held = HeldLaunches::find(&state_dir).await;
            if !held.launches().is_empty() {
                fail_point("adopt-found");
            }
            totals = self.restore_totals(&state_dir, &held).await;
            let spared: Vec<_> = held.launches().into_iter().map(|(server, _, tag)| (server, tag)).collect();
            let deadline = Instant::now() + RECONCILE_TIMEOUT;
            let swept = leftovers::reconcile(&state_dir, &self.settings.boot, &spared, deadline)
                .await
                .map_err(|source| LauncherError::StateDirectory { state_dir, source })?;
            if swept != Default::default() {
                let Sweep { killed, survivors: left } = swept;
                tracing::warn!(killed, ?left, "an earlier run had left processes behind");
            }
        }
        process_handle::announce_polling();
        let orphans = reaper::orphan_notices().map_err(LauncherError::Orphans)?;
        Ok((self, Acquired { held, totals, orphans }))
    }

    /// Restores the totals of earlier daemons: those of running servers as they were when the last daemon ended, even in a crash; those
    /// of other servers as they were when the last daemon handed over.
    async fn restore_totals(&self, state_dir: &Path, held: &HeldLaunches) -> EventTotals {
        let file = TotalsFile::new(state_dir);
        let mut totals = file.loaded().await;
        if !totals.is_empty() {
            // What is counted from now on is not in it.
            file.keep_now(TotalsByServer::new()).await;
        }
        totals.extend(held.totals());
        let launches: BTreeMap<_, _> = held.numbers().into_iter().collect();
        let fleet = self.fleet.borrow();
        totals.retain(|server, _| fleet.get(server.as_str()).is_some());
        let restore = |(server, totals): (ServerId, KeptTotals)| {
            let events = totals::restore(&self.lane, &server, launches.get(&server).copied(), totals);
            (server, events)
        };
        totals.into_iter().map(restore).collect()
    }
}

impl Component for Launcher {
    const NAME: &'static str = "launcher";
    const SENDS: &'static [CommandSetId] = &[CommandSetId::of::<HookCommand>()];
    type Command = LaunchCommand;
    type Error = LauncherError;

    async fn run(self, ports: Ports<LaunchCommand>) -> Result<(), LauncherError> {
        let (launcher, acquired) = self.acquire().await?;
        let worker = LauncherWorker::new(launcher, acquired, &ports);
        ports.drive(worker).await
    }
}

/// The state of the component's loop.
struct LauncherWorker {
    events: Publisher,
    /// The launches whose task has not ended; at most one for each server.
    live: BTreeMap<ServerId, LiveLaunch>,
    /// One task per live launch.
    tasks: JoinSet<EndedLaunch>,
    resources: Arc<LaunchResources>,
    /// Notices of ended children; `None` in a process that gets no orphans.
    orphans: Option<tokio::signal::unix::Signal>,
    /// The guardian that was published last.
    guardian: Option<u32>,
    /// What events and gaps say of launches. The number of the latest one of a server stays known, so that a late command does not
    /// start it again.
    tracker: LaunchTracker<()>,
}

/// Wakes the launcher, like events and commands.
enum LauncherInput {
    /// The task of a launch ended.
    LaunchOver(Result<EndedLaunch, JoinError>),
    /// The kernel says that a child ended, which may be an orphan that we have to reap.
    ChildEnded,
    /// Another guardian serves, with this process id.
    GuardianStarted(u32),
}

/// A launch that has not ended, and the channels to its task.
struct LiveLaunch {
    incarnation: Incarnation,
    spec: Arc<ServerSpec>,
    /// Completes the task's wait for the `pre-start` command; `None` without a command, or after its end.
    pre_start: Option<oneshot::Sender<HookOutcome>>,
    handle: LaunchHandle,
    /// The time of the first request for KILL.
    killed: Option<Instant>,
}

impl Worker for LauncherWorker {
    type Command = LaunchCommand;
    type Error = LauncherError;
    type Input = LauncherInput;

    /// Ends the processes of an earlier daemon whose servers are no longer configured.
    async fn on_start(&mut self, _: &Snapshot, _: Uptime) -> Result<(), LauncherError> {
        let tracker = &self.tracker;
        for held in self.resources.held.take_unknown(|server| tracker.configured(server).is_some()) {
            tracing::warn!(server = %held.server(), "the process of a server that is no longer configured is ended");
            drop(tokio::spawn(held.end(UNKNOWN_GRACE)));
        }
        Ok(())
    }

    /// Passes the end of a `pre-start` hook to its launch, and drops the output of removed servers, launched or not.
    async fn on_event(&mut self, delivery: Delivery, _: Uptime) -> Result<(), LauncherError> {
        match &delivery {
            Delivery::Gap { snapshot, .. } => self.resources.lane.retain(|known| snapshot.servers.contains_key(known)),
            Delivery::Event(envelope) if matches!(envelope.event, Event::ServerRemoved) => {
                self.resources.lane.retain(|known| Some(known) != envelope.server.as_ref());
            }
            Delivery::Event(_) => {}
        }
        for LaunchChange { server, incarnation, transition, .. } in self.tracker.on_event(&delivery) {
            if let Transition::BecameReady(_) = transition
                && let Ok(launch) = self.live(&server, incarnation)
            {
                launch.handle.note_ready();
            } else if let Transition::HookCompleted(HookPoint::PreStart, outcome) = transition
                && let Ok(launch) = self.live(&server, incarnation)
            {
                // A launch that was called off meanwhile does not wait any more.
                let _ = launch.pre_start.take().map(|waiting| waiting.send(outcome));
            }
        }
        Ok(())
    }

    async fn on_command(&mut self, request: ReceivedCommand<LaunchCommand>, _: Uptime) -> Result<(), LauncherError> {
        let (command, cause, reply) = request.split();
        let result = match command {
            LaunchCommand::LaunchServer { server, incarnation } => {
                let reporter = LaunchReporter { events: self.events.clone(), server, incarnation, cause };
                self.launch(reporter)
            }
            LaunchCommand::DeliverSignal { server, incarnation, signal, rung } => {
                self.live(&server, incarnation).and_then(|launch| {
                    if signal == Signal::KILL {
                        launch.killed.get_or_insert_with(Instant::now);
                    }
                    let order = SignalOrder { signal, rung, cause };
                    launch.handle.signal(order).map_err(|undelivered| refused(&server, incarnation, undelivered))
                })
            }
            LaunchCommand::IdentifyListener { server, incarnation } => {
                self.live(&server, incarnation).and_then(|launch| {
                    let asked = launch.handle.ask_listener(ListenerInquiry { cause });
                    asked.map_err(|undelivered| refused(&server, incarnation, undelivered))
                })
            }
        };
        reply(result.map(|()| Accepted { id: None }));
        Ok(())
    }

    async fn next_input(&mut self) -> LauncherInput {
        tokio::select! {
            ended = next_task(&mut self.tasks) => LauncherInput::LaunchOver(ended),
            () = next_orphan_notice(&mut self.orphans) => LauncherInput::ChildEnded,
            pid = self.resources.spawner.next_guardian(self.guardian) => LauncherInput::GuardianStarted(pid),
        }
    }

    async fn on_input(&mut self, input: LauncherInput, _: Uptime) -> Result<(), LauncherError> {
        match input {
            LauncherInput::LaunchOver(ended) => self.on_launch_ended(ended.map_err(LauncherError::Launch)?).await,
            // Detached and without a result: the next ended child starts another search.
            LauncherInput::ChildEnded => drop(tokio::spawn(reaper::reap_orphans())),
            LauncherInput::GuardianStarted(pid) => {
                if let Some(ended) = self.guardian.replace(pid) {
                    tracing::warn!(
                        ended,
                        pid,
                        "the guardian process was killed or stopped, and another one was started"
                    );
                }
                self.events.publish(EventDraft::daemon(Event::GuardianStarted { pid })).await?;
            }
        }
        Ok(())
    }

    /// Kills every process that still runs, and waits until its launch has ended or [`KILL_TIMEOUT`] has passed since KILL.
    async fn on_cancel(&mut self, _: &mut Inbox<LaunchCommand>) -> Result<(), LauncherError> {
        let now = Instant::now();
        let is_handing_over = self.resources.bus.snapshot().daemon.is_handing_over;
        let mut deadline = now + if is_handing_over { LEAVE_TIMEOUT } else { Duration::ZERO };
        for launch in self.live.values() {
            if is_handing_over {
                fail_point("hand-over-launch-ordered");
                launch.handle.leave();
                continue;
            }
            launch.handle.call_off();
            // The terminator may have asked for KILL long ago: no second wait for a process that does not die of it.
            deadline = deadline.max(launch.killed.unwrap_or(now) + KILL_TIMEOUT);
        }
        while let Ok(Some(ended)) = timeout_at(deadline, self.tasks.join_next()).await {
            self.on_launch_ended(ended.map_err(LauncherError::Launch)?).await;
        }
        for server in self.live.keys() {
            tracing::error!(%server, "its process is left behind: it outlived KILL");
        }
        if let Some(state_dir) = self.resources.state_dir.as_deref().filter(|_| is_handing_over) {
            let totals = totals::all(&self.resources.bus.snapshot(), &self.resources.lane);
            TotalsFile::new(state_dir).keep_now(totals).await;
        }
        Ok(())
    }
}

/// Waits until the kernel says that a child has ended; for ever in a process that gets no orphans.
async fn next_orphan_notice(orphans: &mut Option<tokio::signal::unix::Signal>) {
    let notice = match orphans {
        Some(orphans) => orphans.recv().await,
        None => None,
    };
    if notice.is_none() {
        std::future::pending().await
    }
}

impl LauncherWorker {
    fn new(launcher: Launcher, acquired: Acquired, ports: &Ports<LaunchCommand>) -> Self {
        let Launcher { fleet, lane, settings, .. } = launcher;
        let LauncherSettings { boot, spawner, outlive, bus, environment, dialects, dialects_dir, state_dir } = settings;
        let Acquired { held, orphans, .. } = acquired;
        Self {
            tracker: LaunchTracker::new(fleet),
            orphans,
            guardian: None,
            events: ports.events.clone(),
            live: BTreeMap::new(),
            tasks: JoinSet::new(),
            resources: Arc::new(LaunchResources {
                boot,
                lane,
                commands: ports.commands.clone(),
                spawner,
                binaries: BinaryCache::default(),
                dialects: DialectReloader::new(dialects, dialects_dir),
                notes: Interner::default(),
                oom_deaths: AtomicU16::new(0),
                environment,
                state_dir,
                outlive,
                held,
                bus,
            }),
        }
    }

    /// The launch that a command names.
    ///
    /// # Errors
    /// If it has ended, or never began.
    fn live(&mut self, server: &ServerId, incarnation: Incarnation) -> Result<&mut LiveLaunch, Refused> {
        let live = self.live.get_mut(server).filter(|launch| launch.incarnation == incarnation);
        live.ok_or_else(|| over(server, incarnation))
    }

    fn launch(&mut self, reporter: LaunchReporter) -> Result<(), Refused> {
        let (id, incarnation) = (&reporter.server, reporter.incarnation);
        let Some(server) = self.tracker.configured(id) else {
            return Err(Refused::new(RefusalReason::UnknownServer, format!("no server `{id}` is configured")));
        };
        if let Some(LiveLaunch { incarnation: latest, .. }) = self.live.get(id) {
            let detail = format!("launch {latest} of {id} has not ended");
            return Err(Refused::new(RefusalReason::WrongPhase, detail));
        }
        if let Some(latest) =
            self.tracker.get(id).map(|launch| launch.incarnation).filter(|latest| incarnation <= *latest)
        {
            let detail = format!("launch {latest} of {id} has begun already");
            return Err(Refused::new(RefusalReason::StaleIncarnation, detail));
        }
        self.tracker.track(id, incarnation);
        let conflict = self.live.iter().find(|(_, other)| share_address(&other.spec, &server));
        let conflict = conflict.map(|(id, _)| id.clone());
        let (handle, inbox) = launch_channel();
        let (pre_start, ended) = server.hooks.pre_start.as_ref().map(|_| oneshot::channel()).unzip();
        let launch = LiveLaunch { incarnation, spec: Arc::clone(&server), pre_start, handle, killed: None };
        self.live.insert(id.clone(), launch);
        let launch =
            Launch { server, reporter, resources: Arc::clone(&self.resources), inbox, lock: None, adopted_tag: None };
        self.tasks.spawn(launch.run(LaunchPreconditions { conflict, pre_start: ended }));
        Ok(())
    }

    /// Publishes the last event of a launch. The server can be launched again before anybody sees that event, since its
    /// reader may ask for the next launch at once.
    async fn on_launch_ended(&mut self, ended: EndedLaunch) {
        self.live.remove(&ended.server);
        let Some(last) = ended.last else { return };
        // Acknowledged: when this component has ended, the snapshot has every end that it saw.
        if self.events.publish_acked(last).await.is_err() {
            tracing::debug!(server = %ended.server, "the bus is closed: the end of a launch was not published");
        }
        fail_point("exit-published");
    }
}

/// Whether two servers would listen on the same address. Builds until 2025-08 share a port without an error, and a client then
/// reaches either of them.
fn share_address(one: &ServerSpec, other: &ServerSpec) -> bool {
    let is_unix = |host: &str| host.ends_with(".sock");
    let is_any = |host: &str| matches!(host, "0.0.0.0" | "::" | "[::]");
    if is_unix(&one.host) || is_unix(&other.host) {
        return one.host == other.host;
    }
    one.port == other.port && (one.host == other.host || is_any(&one.host) || is_any(&other.host))
}

/// The refusal of an order that was not queued.
fn refused(server: &ServerId, incarnation: Incarnation, undelivered: Undelivered) -> Refused {
    match undelivered {
        Undelivered::Full => {
            let detail = format!("{MAX_QUEUED_SIGNALS} signals are queued for {server} already");
            Refused::new(RefusalReason::QueueFull, detail)
        }
        Undelivered::Over => over(server, incarnation),
    }
}

fn over(server: &ServerId, incarnation: Incarnation) -> Refused {
    let detail = format!("launch {incarnation} of {server} has ended, or never began");
    Refused::new(RefusalReason::StaleIncarnation, detail)
}
