//! The component: takes commands, runs one task per launch, publishes how each ended.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::{Delivery, OutputLane, Publisher, ReceivedCommand};
use llama_warden_component::{Component, Ports};
use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_dialects::DialectSet;
use llama_warden_events::{
    BootId, Event, HookOutcome, HookPoint, Incarnation, LaunchCommand, RefusalReason, Refused, ServerId, Signal,
};
use llama_warden_state::Snapshot;
use llama_warden_support::Interner;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::launch::context::{EndedLaunch, Launch, LaunchReporter, LaunchResources};
use crate::launch::dialect_reloader::DialectReloader;
use crate::launch::identify::BinaryCache;
use crate::launch::orders::{
    LaunchHandle, ListenerInquiry, MAX_QUEUED_SIGNALS, SignalOrder, Undelivered, launch_channel,
};
use crate::launch::task::LaunchPreconditions;
use crate::machine::Machine;
use crate::process::leftovers;
use crate::process::reaper;
use crate::process::spawn_request::ShimProgram;
use crate::process::spawner::Spawner;

/// Time from KILL to the end of a launch, at the end of the daemon. What is still there then does not go away by waiting: the
/// kernel holds it, or it may not be killed by us.
const KILL_TIMEOUT: Duration = Duration::from_secs(3);
/// Time to kill what an earlier run left behind.
const RECONCILE_TIMEOUT: Duration = Duration::from_secs(5);

/// Owns the processes of every server.
#[derive(Debug)]
pub struct Launcher {
    fleet: watch::Receiver<Fleet>,
    lane: OutputLane,
    settings: LauncherSettings,
}

/// How processes are made.
#[derive(Debug, Clone)]
pub struct LauncherSettings {
    /// The id of this run; part of every child's tag.
    pub boot: BootId,
    /// What becomes a server after it has prepared itself.
    pub shim: ShimProgram,
    /// What children may inherit from: the daemon's own environment.
    pub environment: Vec<(OsString, OsString)>,
    /// How options are spelled.
    pub dialects: DialectSet,
    /// The folder (absolute) from which those are renewed before each launch; `None` renews nothing.
    pub dialects_dir: Option<PathBuf>,
    /// Where the ids of earlier runs are kept, whose leftovers are killed at start; `None` kills nothing.
    pub state_dir: Option<PathBuf>,
}

/// Why the launcher ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// No thread to spawn from.
    #[error("cannot start the spawner thread: {0}")]
    Spawner(#[source] io::Error),
    /// No notice of ended children.
    #[error("cannot listen for ended children: {0}")]
    Orphans(#[source] io::Error),
    /// The ids of earlier runs cannot be kept.
    #[error("cannot keep track of this run in {}: {source}", state_dir.display())]
    StateDirectory {
        /// Where.
        state_dir: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A launch panicked; what became of its process is not known.
    #[error("a launch failed: {0}")]
    Launch(#[source] tokio::task::JoinError),
}

impl Launcher {
    /// A launcher of the servers in `fleet`, whose output goes into `lane`.
    pub fn new(fleet: watch::Receiver<Fleet>, lane: OutputLane, settings: LauncherSettings) -> Self {
        Self { fleet, lane, settings }
    }
}

impl Component for Launcher {
    const NAME: &'static str = "launcher";
    type Command = LaunchCommand;
    type Error = LauncherError;

    async fn run(self, mut ports: Ports<LaunchCommand>) -> Result<(), LauncherError> {
        let mut worker = LauncherWorker::start(self, &ports).await?;
        let mut orphans = reaper::orphan_notices().map_err(LauncherError::Orphans)?;
        loop {
            tokio::select! {
                Some(over) = worker.launches.join_next() => worker.on_launch_ended(over.map_err(LauncherError::Launch)?).await,
                request = ports.inbox.recv() => match request {
                    Some(request) => worker.on_command(request),
                    None => ports.cancel.cancelled().await,
                },
                Some(delivery) = ports.subscription.next() => worker.on_delivery(delivery),
                Some(()) = next_orphan_notice(&mut orphans) => worker.reap_orphans(),
                () = ports.cancel.cancelled() => break,
            }
        }
        worker.drain().await
    }
}

/// The next notice of an ended child; never, for a process that gets no orphans.
async fn next_orphan_notice(orphans: &mut Option<tokio::signal::unix::Signal>) -> Option<()> {
    match orphans {
        Some(orphans) => orphans.recv().await,
        None => std::future::pending().await,
    }
}

/// Everything that the loop works with.
struct LauncherWorker {
    fleet: watch::Receiver<Fleet>,
    events: Publisher,
    machine: Machine,
    live: BTreeMap<ServerId, Live>,
    launches: JoinSet<EndedLaunch>,
    resources: Arc<LaunchResources>,
}

/// A launch that is not over, and the ways to it.
struct Live {
    incarnation: Incarnation,
    spec: Arc<ServerSpec>,
    /// Waits for the end of the `pre-start` command.
    pre_start: Option<oneshot::Sender<HookOutcome>>,
    handle: LaunchHandle,
    /// When KILL was first asked for.
    killed: Option<Instant>,
}

impl LauncherWorker {
    async fn start(launcher: Launcher, ports: &Ports<LaunchCommand>) -> Result<Self, LauncherError> {
        let Launcher { fleet, lane, settings } = launcher;
        let LauncherSettings { boot, shim, environment, dialects, dialects_dir, state_dir } = settings;
        if let Some(state_dir) = state_dir.clone() {
            let deadline = Instant::now() + RECONCILE_TIMEOUT;
            let swept = leftovers::reconcile(&state_dir, &boot, deadline)
                .await
                .map_err(|source| LauncherError::StateDirectory { state_dir, source })?;
            if swept != Default::default() {
                tracing::warn!(killed = swept.killed, left = ?swept.survivors, "an earlier run had left processes behind");
            }
        }
        let spawner = Spawner::start().map_err(LauncherError::Spawner)?;
        let binaries = BinaryCache::default();
        Ok(Self {
            fleet,
            events: ports.events.clone(),
            machine: Machine::default(),
            live: BTreeMap::new(),
            launches: JoinSet::new(),
            resources: Arc::new(LaunchResources {
                boot,
                lane,
                commands: ports.commands.clone(),
                spawner,
                shim,
                binaries,
                dialects: DialectReloader::new(dialects, dialects_dir),
                notes: Interner::default(),
                environment,
                state_dir,
            }),
        })
    }

    fn on_command(&mut self, request: ReceivedCommand<LaunchCommand>) {
        let (command, cause, reply) = request.split();
        let result = match command {
            LaunchCommand::LaunchServer { server, incarnation } => {
                let reporter = LaunchReporter { events: self.events.clone(), server, incarnation, cause };
                self.launch(reporter)
            }
            LaunchCommand::DeliverSignal { server, incarnation, signal, rung } => {
                let order = SignalOrder { signal, rung, cause };
                self.machine.on_order(&server, incarnation).and_then(|()| {
                    let live = self.live.get_mut(&server).ok_or_else(|| over(&server))?;
                    if signal == Signal::KILL {
                        live.killed.get_or_insert_with(Instant::now);
                    }
                    live.handle.signal(order).map_err(|undelivered| unsent(&server, undelivered))
                })
            }
            LaunchCommand::IdentifyListener { server, incarnation } => {
                self.machine.on_order(&server, incarnation).and_then(|()| {
                    let live = self.live.get(&server).ok_or_else(|| over(&server))?;
                    let inquiry = ListenerInquiry { cause };
                    live.handle.ask_listener(inquiry).map_err(|undelivered| unsent(&server, undelivered))
                })
            }
        };
        reply(result.map(|()| llama_warden_bus::Accepted { id: None }));
    }

    fn launch(&mut self, reporter: LaunchReporter) -> Result<(), Refused> {
        let Some(server) = self.fleet.borrow().get(reporter.server.as_str()).cloned() else {
            let detail = format!("no server `{}` is configured", reporter.server);
            return Err(Refused::new(RefusalReason::UnknownServer, detail));
        };
        self.machine.on_launch(&reporter.server, reporter.incarnation)?;
        let (handle, inbox) = launch_channel();
        let conflict =
            self.live.values().find(|live| listen_in_one_place(&live.spec, &server)).map(|live| live.spec.id.clone());
        let (tell, pre_start) = server.hooks.pre_start.as_ref().map(|_| oneshot::channel()).unzip();
        let (spec, incarnation) = (Arc::clone(&server), reporter.incarnation);
        let live = Live { incarnation, spec, pre_start: tell, handle, killed: None };
        self.live.insert(reporter.server.clone(), live);
        let launch = Launch { server, reporter, resources: Arc::clone(&self.resources), inbox };
        self.launches.spawn(launch.run(LaunchPreconditions { conflict, pre_start }));
        Ok(())
    }

    /// Tells launches how the commands ended that they wait for, and forgets the output of who is gone.
    fn on_delivery(&mut self, delivery: Delivery) {
        let envelope = match delivery {
            Delivery::Event(envelope) => envelope,
            Delivery::Gap { snapshot, .. } => return self.on_gap(&snapshot),
        };
        let Some(server) = &envelope.server else { return };
        match &envelope.event {
            Event::HookCompleted { hook: HookPoint::PreStart, outcome, .. } => {
                let live = self.live.get_mut(server).filter(|live| Some(live.incarnation) == envelope.incarnation);
                if let Some(live) = live {
                    live.pre_start_ended(outcome);
                }
            }
            Event::ServerRemoved => self.resources.lane.retain(|known| known != server),
            _ => {}
        }
    }

    fn on_gap(&mut self, snapshot: &Snapshot) {
        self.resources.lane.retain(|known| snapshot.servers.contains_key(known));
        for (server, live) in &mut self.live {
            let record = snapshot.servers.get(server).filter(|record| record.incarnation == live.incarnation);
            if let Some(outcome) = record.and_then(|record| record.hooks.get(&HookPoint::PreStart)) {
                live.pre_start_ended(outcome);
            }
        }
    }

    /// Frees the server's place before its last event is seen: who hears of the end may launch again at once.
    async fn on_launch_ended(&mut self, over: EndedLaunch) {
        self.machine.on_over(&over.server, over.incarnation);
        self.live.remove(&over.server);
        // Acknowledged: when this component has ended, the snapshot knows of every end that it saw.
        if self.events.publish_acked(over.last).await.is_err() {
            tracing::debug!(server = %over.server, "the end of a launch is not heard any more: the bus is closed");
        }
    }

    fn reap_orphans(&self) {
        let children = self.resources.spawner.children().clone();
        // Nobody waits for it: another ended child brings another look.
        drop(tokio::spawn(reaper::reap_orphans(children)));
    }

    /// Kills what still runs and sees it through, as long as that can help.
    async fn drain(mut self) -> Result<(), LauncherError> {
        self.machine.on_drain();
        self.live.values().for_each(|live| live.handle.call_off());
        let now = Instant::now();
        let deadline = self.live.values().map(|live| live.killed.unwrap_or(now) + KILL_TIMEOUT).max().unwrap_or(now);
        while let Ok(Some(over)) = timeout_at(deadline, self.launches.join_next()).await {
            self.on_launch_ended(over.map_err(LauncherError::Launch)?).await;
        }
        for server in self.live.keys() {
            tracing::error!(%server, "its process is left behind: it outlived KILL");
        }
        Ok(())
    }
}

impl Live {
    fn pre_start_ended(&mut self, outcome: &HookOutcome) {
        // A launch that was called off meanwhile does not wait any more.
        let _ = self.pre_start.take().map(|waiting| waiting.send(outcome.clone()));
    }
}

/// Whether two servers would listen in one place. Builds until 2025-08 would share the port, and neither would know.
fn listen_in_one_place(one: &ServerSpec, other: &ServerSpec) -> bool {
    let is_unix = |host: &str| host.ends_with(".sock");
    let is_any = |host: &str| matches!(host, "0.0.0.0" | "::" | "[::]");
    if is_unix(&one.host) || is_unix(&other.host) {
        return one.host == other.host;
    }
    one.port == other.port && (one.host == other.host || is_any(&one.host) || is_any(&other.host))
}

fn over(server: &ServerId) -> Refused {
    Refused::new(RefusalReason::StaleIncarnation, format!("the launch of {server} is over"))
}

fn unsent(server: &ServerId, undelivered: Undelivered) -> Refused {
    match undelivered {
        Undelivered::Full => {
            Refused::new(RefusalReason::QueueFull, format!("{MAX_QUEUED_SIGNALS} signals for {server} are waiting"))
        }
        Undelivered::Over => over(server),
    }
}
