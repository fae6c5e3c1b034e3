//! `up`: the daemon from its first file to its exit code.
//!
//! The guarantees rest on this order: the state directory is locked before anything is touched, addresses are bound before
//! anything is launched, and spans, metrics and log records are flushed after every server is gone.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::{Bus, CommandSender, EventDraft};
use llama_warden_canary::BuildOverrides;
use llama_warden_component::{Context, ContextParts, Host, HostSettings, RunningHost};
use llama_warden_config::{Fleet, TcpAddress};
use llama_warden_event_log::LogReopener;
use llama_warden_events::{BootId, Event, RouterCard, ServerId, Signal};
use llama_warden_exit::{CommandFailure, CommandResult, Exit, next_step_for};
use llama_warden_inventory::{Inventory, PortFile};
use llama_warden_support::fail_point;
use llama_warden_telemetry::{ExportSettings, Exports};
use tokio::sync::watch;

use crate::compose::{Resources, compose};
use crate::extensions::Extensions;
use crate::fleet_source::{self, FleetResolver};
use crate::settings;
use crate::signals::Signals;
use crate::sockets;
use crate::state_dir::StateDir;
use crate::token_file::TokenFile;

/// Number of events that stay readable for `events` and for slow readers. At 140 bytes each, and what some of them own,
/// about a megabyte.
const EVENTS_KEPT: usize = 4096;

/// Longest time that a component may take to end once every server is gone.
const COMPONENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest time that a collector may take for what is left to send, when every server is gone.
const EXPORT_FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Options of the command line, and compiled-in matchers and components.
#[derive(Debug, Default)]
pub struct UpOptions {
    /// The profile to start; `None` starts the configured one.
    pub profile: Option<String>,
    /// The only servers to start; empty starts every enabled one.
    pub only: Vec<ServerId>,
    /// Listening sockets from systemd.
    pub sockets: Vec<TcpListener>,
    /// Compiled-in matchers and components.
    pub extensions: Extensions,
}

/// A daemon that has locked its state directory and bound its addresses, and runs nothing yet.
#[derive(Debug)]
pub struct PreparedDaemon {
    state: StateDir,
    host: Host,
    signals: Signals,
    exports: Option<Exports>,
    event_log: Option<LogReopener>,
    /// Number of configured servers.
    pub servers: usize,
    /// The TCP address of the API, with its real port.
    pub tcp: Option<TcpAddress>,
    /// Where the router listens, with its real port.
    pub router: Option<RouterCard>,
}

impl PreparedDaemon {
    /// Acquires everything that can be refused, and composes. Must be called on a runtime.
    ///
    /// # Errors
    /// The configuration, the state directory or an address does not allow it.
    pub async fn prepare(inventory: Inventory, options: UpOptions) -> Result<Self, CommandFailure> {
        // First of all: a signal that comes during the start must not end the process with servers half launched.
        let signals = Signals::install()?;
        require_proc()?;
        let UpOptions { profile, only, sockets: passed_sockets, extensions } = options;
        let (loaded, profile) = (&inventory.loaded, profile.as_deref());
        let configuration = loaded.configuration.clone();
        let daemon = configuration.daemon();
        let fleet = loaded.fleet(profile)?;
        let only = check_only(only, &fleet)?;
        let fleet = fleet_source::enable_only(fleet, only.as_deref());
        let servers = fleet.iter().len();

        let state = StateDir::acquire(&loaded.state_dir()?)?;
        fail_point("start-locked");
        let mut builds = BuildOverrides::read(state.path());
        let fleet = builds.apply(&fleet);
        builds.log();
        let ports = PortFile::new(state.path());
        inventory.models.log();
        fleet_source::save_ports(&ports, &inventory.kept);
        let token_file = daemon.token_file.as_deref().map(TokenFile::open).transpose()?;
        let keys_file = settings::keys_file(configuration.router())?;
        let listeners = sockets::bind(daemon.listen.as_ref(), &state, passed_sockets)?;
        let route_listener = sockets::bind_router(configuration.router())?;
        let router = settings::router_card(configuration.router(), route_listener.place());
        fail_point("start-bound");
        let tcp =
            listeners.tcp_address().map(|address| TcpAddress { host: address.ip().to_string(), port: address.port() });
        let spawner = settings::spawner()?;
        fail_point("start-guarded");

        let mut host = Host::new(HostSettings {
            boot: BootId::from_random(fastrand::u64(..)),
            events_kept: EVENTS_KEPT,
            drain: daemon.shutdown_deadline + COMPONENT_TIMEOUT,
            cancel: COMPONENT_TIMEOUT,
        });
        let export_settings = ExportSettings::from_env();
        let exports = settings::start_exports(&export_settings, host.bus().clone());
        let resolver = FleetResolver::new(&inventory, profile, only, ports)
            .rereading(token_file.clone(), keys_file.clone())
            .telling(settings::peers(&configuration))
            .overriding(builds);
        let (fleet_sender, fleet) = watch::channel(fleet);
        let context = Context::from(ContextParts {
            configuration: configuration.clone(),
            fleet,
            bus: host.bus().clone(),
            lane: host.lane().clone(),
            state_dir: state.path().to_owned(),
        });
        let resources = Resources {
            state: state.clone(),
            token_file,
            keys_file,
            listeners,
            route_listener,
            spawner,
            export_settings,
            recorder: exports.as_ref().map(Exports::recorder),
            resolver: Arc::new(resolver),
            fleet: fleet_sender,
        };
        let event_log = compose(&mut host, &context, resources, extensions).await?;
        // Every component has subscribed by now, so each of them receives the start.
        let started = Event::DaemonStarted {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            profile: configuration.active_profile(profile).map(str::to_owned),
            router: router.clone().map(Box::new),
        };
        host.publisher().publish(EventDraft::daemon(started)).await.map_err(CommandFailure::failed)?;
        fail_point("start-published");
        Ok(Self { state, host, signals, exports, event_log, servers, tcp, router })
    }

    /// The bus, for observers in this process.
    pub fn bus(&self) -> Bus {
        self.host.bus().clone()
    }

    /// Sends commands to the components, beside the signals that the daemon handles itself.
    pub fn commands(&self) -> CommandSender {
        self.host.commands()
    }

    /// The path of the control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.state.control_socket()
    }

    /// Starts the servers, runs until everything has ended, and returns how it ended.
    ///
    /// # Errors
    /// A component failed, or servers survived the shutdown deadline.
    pub async fn run(self) -> CommandResult {
        let commands = self.host.commands();
        let bus = self.host.bus().clone();
        let running = self.host.start()?;
        let (force, forced) = watch::channel(None);
        let exit = tokio::select! {
            ended = end(running, bus) => ended,
            // The third signal leaves at once. The shims kill the servers, which are being stopped.
            signal = self.signals.run(commands, self.event_log, force) => Ok(Exit::Signaled(signal)),
        };
        fail_point("end-components-ended");
        if let Some(exports) = self.exports {
            for error in exports.finish(EXPORT_FLUSH_TIMEOUT).await {
                tracing::warn!(%error, "not everything was exported");
            }
        }
        let forced: Option<Signal> = *forced.borrow();
        match (exit, forced) {
            (Ok(Exit::Done), Some(signal)) => Ok(Exit::Signaled(signal)),
            (exit, _) => exit,
        }
    }
}

/// Waits for the end of every component. Servers that are left then are named in the failure.
async fn end(running: RunningHost, bus: Bus) -> CommandResult {
    running.join().await.map_err(CommandFailure::failed)?;
    let snapshot = bus.snapshot();
    if snapshot.daemon.is_handing_over {
        fail_point("hand-over-complete");
        return Ok(Exit::Done);
    }
    let left = snapshot
        .servers
        .iter()
        .filter_map(|(server, record)| Some(format!("{server} (pid {})", record.process.as_ref()?.pid)));
    let left: Vec<_> = left.collect();
    if left.is_empty() {
        return Ok(Exit::Done);
    }
    let message = format!("the shutdown deadline has passed and these are still there: {}", left.join(", "));
    Err(CommandFailure::failed(message).next_step("the kernel holds them, often in a driver; look at dmesg"))
}

/// Fails without /proc: the launcher starts its shim as `/proc/self/exe`, and finds escaped descendants there.
fn require_proc() -> Result<(), CommandFailure> {
    fs::read("/proc/self/stat").map(drop).map_err(|error| {
        let mount = "mount it (`mount -t proc proc /proc`): what servers leave behind is found there";
        CommandFailure::failed(format!("cannot read /proc/self/stat: {error}"))
            .next_step(next_step_for(&error).unwrap_or(mount))
    })
}

/// Fails for a name of `--server` that is not configured, which would silently start nothing.
fn check_only(only: Vec<ServerId>, fleet: &Fleet) -> Result<Option<Vec<ServerId>>, CommandFailure> {
    if let Some(unknown) = only.iter().find(|server| fleet.get(server.as_str()).is_none()) {
        let known = fleet.iter().map(|spec| spec.id.as_str());
        return Err(CommandFailure::unknown_server(unknown.as_str(), known));
    }
    Ok((!only.is_empty()).then_some(only))
}
