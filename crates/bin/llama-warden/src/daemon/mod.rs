//! `up`: the daemon from its first file to its exit code.
//!
//! Order, on which the guarantees rest: the state directory is locked before anything is touched, addresses are taken
//! before anything is launched, and telemetry is flushed after every server is gone.

mod config_watch;
pub mod heap;
mod lock;
mod signals;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use llama_warden_api::{ListenSettings, Listeners, Token};
use llama_warden_bus::{Bus, EventDraft};
use llama_warden_component::{Host, HostSettings, RunningHost};
use llama_warden_config::{ConfigSource, Fleet, TcpAddress};
use llama_warden_events::{BootId, Event, ServerId, Signal};
use llama_warden_plugin_files::{PluginFile, PluginSet};
use llama_warden_supervisor::Limits;
use llama_warden_support::BLOCKING_THREADS;
use llama_warden_telemetry::{Tracing, TracingError, TracingSettings};
use tokio::sync::watch;

use crate::Matchers;
use crate::compose::{self, Parts};
use crate::exit::{Exit, Failure};
use crate::models::{Inventory, PortBook};
use crate::source::{self, Sources};
pub use config_watch::ConfigWatch;
use lock::StateDir;
use signals::Signals;

/// Events that stay readable for `events` and for slow readers. At 140 bytes each and what some of them own, about a megabyte.
const FACTS_KEPT: usize = 4096;

/// Longest time that a component may take to end once every server is gone.
const COMPONENTS_END: Duration = Duration::from_secs(5);

/// Longest time that a collector may take for the last spans, when every server is gone.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// How long a thread for work that may block stays idle. While there is one, work waits for it where the kernel gives no other;
/// with none, tokio panics. So the first one is made at the start and none ever ends.
const THREADS_STAY: Duration = Duration::from_secs(u32::MAX as u64);

/// What `up` is asked to run.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// The profile; `None` takes the configured one.
    pub profile: Option<String>,
    /// Start only these by themselves; empty starts what is enabled.
    pub only: Vec<ServerId>,
    /// What reads output instead of detector packs.
    pub matchers: Option<Matchers>,
}

/// A daemon that has taken its state directory and addresses and runs nothing yet.
#[derive(Debug)]
pub struct Daemon {
    state: StateDir,
    host: Host,
    signals: Signals,
    tracing: Option<Tracing>,
    servers: usize,
    tcp: Option<TcpAddress>,
}

impl Daemon {
    /// Takes everything that can be refused, and composes. Must be called on a runtime.
    ///
    /// # Errors
    /// Where the configuration, the state directory or an address does not allow it.
    pub async fn prepare(inventory: Inventory, order: &Order) -> Result<Self, Failure> {
        let signals = Signals::hear()?;
        require_proc()?;
        let loaded = &inventory.loaded;
        let settings = loaded.configuration.daemon();
        let fleet = loaded.fleet(order.profile.as_deref())?;
        let only = check_only(&order.only, &fleet)?;
        let fleet = source::only(fleet, only.as_deref());
        let state = StateDir::acquire(&loaded.state_dir()?)?;
        let ports = PortBook::new(state.path());
        inventory.models.log();
        source::keep(&ports, &inventory.ports);
        let Sources { fleet: source, models } = source::sources(&inventory, order.profile.as_deref(), only, ports);
        let token = settings.token_file.as_deref().map(read_token).transpose()?;
        let listeners = bind(settings.listen.as_ref(), state.path())?;
        let tcp =
            listeners.tcp_address().map(|address| TcpAddress { host: address.ip().to_string(), port: address.port() });

        let boot = BootId::from_random(fastrand::u64(..));
        let mut host = Host::new(HostSettings {
            boot,
            events_kept: FACTS_KEPT,
            drain: settings.shutdown_deadline + COMPONENTS_END,
            cancel: COMPONENTS_END,
        });
        let servers = fleet.iter().len();
        let tracing = start_tracing(&boot)?;
        let parts = Parts {
            spans: tracing.as_ref().map(Tracing::recorder),
            event_log_bytes: loaded.configuration.logs().event_log_bytes,
            boot,
            environment: std::env::vars_os().collect::<Vec<(OsString, OsString)>>(),
            state_dir: state.path().to_owned(),
            source,
            models,
            watch: watch_configuration(&loaded.source),
            fleet,
            limits: Limits {
                shutdown: settings.shutdown_deadline,
                starts: loaded.configuration.start().max_concurrent.map(|most| most.get() as usize),
                memory: loaded.configuration.start().memory,
            },
            packs: library(loaded.configuration.detectors_dir(), "readiness.detectors-dir")?,
            detectors_dir: loaded.configuration.detectors_dir().map(Path::to_owned),
            matchers: order.matchers.clone(),
            dialects: library(loaded.configuration.dialects_dir(), "llama-server.dialects-dir")?,
            dialects_dir: loaded.configuration.dialects_dir().map(Path::to_owned),
            profiles: source::profiles(&loaded.configuration),
            listeners,
            token,
        };
        compose::compose(&mut host, parts).map_err(failed)?;
        // Every component subscribed above, so that each hears of the start.
        let started = Event::DaemonStarted {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            profile: loaded.configuration.active_profile(order.profile.as_deref()).map(str::to_owned),
        };
        publish(&host, EventDraft::daemon(started)).await?;
        Ok(Self { state, host, signals, tracing, servers, tcp })
    }

    /// The line of events, for those who watch from within.
    pub fn bus(&self) -> Bus {
        self.host.bus().clone()
    }

    /// The TCP address that was taken.
    pub const fn tcp(&self) -> Option<&TcpAddress> {
        self.tcp.as_ref()
    }

    /// How many servers are configured.
    pub const fn servers(&self) -> usize {
        self.servers
    }

    /// The control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.state.path().join("control.sock")
    }

    /// Starts the servers, rules until the end, and says how it ended.
    ///
    /// # Errors
    /// Where a component failed.
    pub async fn run(self) -> Result<Exit, Failure> {
        let commands = self.host.commands();
        let bus = self.host.bus().clone();
        let running = self.host.start().map_err(failed)?;
        let (insist, insisted) = watch::channel(None);
        let exit = tokio::select! {
            ended = end(running, bus) => ended,
            // Whoever asks three times wants out. The kernel kills the servers with us.
            signal = self.signals.rule(commands, insist) => Ok(Exit::Signaled(signal)),
        };
        if let Some(tracing) = self.tracing
            && let Err(error) = tracing.finish(LAST_SPANS).await
        {
            tracing::warn!(%error, "spans were lost");
        }
        let insisted: Option<Signal> = *insisted.borrow();
        match (exit, insisted) {
            (Ok(Exit::Done), Some(signal)) => Ok(Exit::Signaled(signal)),
            (exit, _) => exit,
        }
    }
}

async fn end(running: RunningHost, bus: Bus) -> Result<Exit, Failure> {
    running.join().await.map_err(failed)?;
    let left: Vec<_> = bus
        .snapshot()
        .servers
        .iter()
        .filter_map(|(server, record)| Some(format!("{server} (pid {})", record.process.as_ref()?.pid)))
        .collect();
    match left.is_empty() {
        true => Ok(Exit::Done),
        false => Err(Failure::new(
            Exit::Failed,
            format!("the shutdown deadline has passed and these are still there: {}", left.join(", ")),
        )
        .next_step("the kernel holds them, often in a driver; look at dmesg")),
    }
}

async fn publish(host: &Host, event: EventDraft) -> Result<(), Failure> {
    host.publisher().publish(event).await.map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failed, error)
}

/// Without it nobody is found who outlives a server, and no server is started: the shim is our own executable by its name there.
fn require_proc() -> Result<(), Failure> {
    fs::read("/proc/self/stat").map(drop).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot read /proc/self/stat: {error}"))
            .next_step("mount it (`mount -t proc proc /proc`): what servers leave behind is found there")
    })
}

/// Spans are sent where the environment names a collector; else nothing is started.
fn start_tracing(boot: &BootId) -> Result<Option<Tracing>, Failure> {
    let failed = |error: TracingError| Failure::new(Exit::Usage, error).next_step("mend or unset the OTEL_* variable");
    let Some(settings) = TracingSettings::from_env().map_err(failed)? else { return Ok(None) };
    Tracing::start(&settings, env!("CARGO_PKG_VERSION"), boot).map(Some).map_err(failed)
}

/// The data files of a directory, which `key` names, before the built-in ones.
fn library<F: PluginFile>(directory: Option<&Path>, key: &str) -> Result<PluginSet<F>, Failure> {
    compose::library(directory)
        .map_err(|error| Failure::new(Exit::Usage, error).next_step(format!("mend the file, or take it out of {key}")))
}

fn bind(listen: Option<&TcpAddress>, state_dir: &Path) -> Result<Listeners, Failure> {
    let settings = ListenSettings {
        tcp: listen.map(|address| (address.host.clone(), address.port)),
        control: state_dir.join("control.sock"),
    };
    Listeners::bind(&settings).map_err(|error| {
        let source = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
        Failure::new(Exit::Failed, format!("{error}{source}")).next_step(error.next_step())
    })
}

fn read_token(path: &Path) -> Result<Token, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::new(Exit::Usage, format!("cannot use the token file {}: {error}", path.display()))
            .next_step("write the token into its first line, and let only the daemon's user read it")
    };
    let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
    Token::new(text.lines().next().unwrap_or_default()).map_err(|error| failed(&error))
}

/// The watch on the file of a configuration. The daemon does without where the kernel gives none: HUP is left.
fn watch_configuration(source: &ConfigSource) -> Option<ConfigWatch> {
    let path = source.path.as_ref().map(|path| source.directory.join(path.file_name().unwrap_or_default()))?;
    match ConfigWatch::new(&path, source.text.clone()) {
        Ok(watch) => Some(watch),
        Err(error) => {
            let path = path.display();
            tracing::warn!(%path, %error, "the configuration is not watched; send HUP after a change");
            None
        }
    }
}

/// Names of `--server` that are not configured would silently start nothing.
fn check_only(only: &[ServerId], fleet: &Fleet) -> Result<Option<Vec<ServerId>>, Failure> {
    if let Some(unknown) = only.iter().find(|server| fleet.get(server.as_str()).is_none()) {
        let known = fleet.iter().map(|spec| spec.id.as_str());
        return Err(Failure::unknown_server(Exit::Usage, unknown, known));
    }
    Ok((!only.is_empty()).then(|| only.to_vec()))
}

/// A runtime for the daemon: its work is waiting, so that one thread serves any number of servers, from one heap. What may
/// block has threads of its own.
///
/// # Errors
/// Where the kernel gives no thread.
pub fn runtime() -> Result<Arc<tokio::runtime::Runtime>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(THREADS_STAY)
        .thread_name("llama-warden")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start the runtime: {error}")))?;
    drop(runtime.spawn_blocking(|| ()));
    Ok(Arc::new(runtime))
}

/// Ends a runtime whose daemon has ended. What still reads a file somewhere is not waited for: its disk may never answer.
pub fn let_go(runtime: Arc<tokio::runtime::Runtime>) {
    if let Some(runtime) = Arc::into_inner(runtime) {
        runtime.shutdown_background();
    }
}
