//! What the daemon decides for its components, by the configuration and the environment, and how it fails to.
//!
//! Nothing here starts anything but the guardian and the exporter of spans: a daemon that is refused has launched no server.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use llama_warden_api::Listeners;
use llama_warden_api_types::{ExtraRoute, base_url};
use llama_warden_bus::Bus;
use llama_warden_component::Context;
use llama_warden_config::{ConfigSource, Configuration, DaemonSettings, RouterAddress, RouterSettings, SourceKind};
use llama_warden_dashboard::dashboard_routes;
use llama_warden_detectors::PackSet;
use llama_warden_dialects::DialectSet;
use llama_warden_events::RouterCard;
use llama_warden_exit::{CommandFailure, next_step_for, with_source};
use llama_warden_launcher::{GuardianProgram, Launcher, Spawner};
use llama_warden_metrics::{Exemplars, Metrics};
use llama_warden_peers::Peers;
use llama_warden_plugin_files::PluginSetError;
use llama_warden_support::open_to_others;
use llama_warden_systemd::{Systemd, SystemdEnvironment};
use llama_warden_telemetry::{ExportSettings, ExportSource, Exports};
use llama_warden_traffic::{FinishedRequests, RouterTraffic};

use crate::config_watch::ConfigWatch;
use crate::fleet_source::LatestText;
use crate::keys_file::{self, KeysFile};
use crate::sockets;
use crate::state_dir::StateDir;
use crate::token_file::read_token;

/// Fails for what would keep a daemon from starting in the place of the one that holds the state directory, as far as that can be
/// seen beforehand.
pub fn rehearse(configuration: &Configuration, state_dir: &Path) -> Result<(), CommandFailure> {
    let daemon = configuration.daemon();
    PackSet::configured(configuration.detectors_dir()).map_err(refused_pack)?;
    DialectSet::configured(configuration.dialects_dir()).map_err(refused_dialect)?;
    daemon.token_file.as_deref().map(read_token).transpose()?;
    let router = configuration.router();
    let keys_file = router.keys_file.as_deref().filter(|_| router.listen != RouterAddress::Off);
    keys_file.map_or(Ok(()), keys_file::rehearse)?;
    let running = StateDir::holder(state_dir);
    if let Some(address) = &daemon.listen {
        sockets::require_free_for_next(running, address)?;
    }
    match &router.listen {
        RouterAddress::Tcp(address) => sockets::require_free_for_router(running, router, address),
        RouterAddress::Off | RouterAddress::Unix(_) => Ok(()),
    }
}

/// The description of the router for events and status; it listens at this host and port, or on the socket of this path.
pub fn router_card(settings: &RouterSettings, place: Option<(String, Option<u16>)>) -> Option<RouterCard> {
    let (host, port) = place?;
    Some(RouterCard {
        base_url: base_url(&host, port.unwrap_or_default()),
        host,
        port,
        on_demand: settings.on_demand,
        needs_key: settings.keys_file.is_some(),
    })
}

/// Starts the guardian, this process' first child, which makes every other process.
pub fn spawner() -> Result<Spawner, CommandFailure> {
    Spawner::start(GuardianProgram::OwnExecutable).map_err(|error| {
        let failure = CommandFailure::failed(format!("cannot start the guardian process: {error}"));
        match next_step_for(&error) {
            Some(step) => failure.next_step(step),
            None => failure,
        }
    })
}

/// Builds the launcher, kills what an earlier run left behind, and writes down this run: all before the daemon says that it is up.
pub async fn launcher(context: &Context, spawner: Spawner) -> Result<Launcher, CommandFailure> {
    let launcher = Launcher::build(context, spawner).map_err(refused_dialect)?;
    launcher.prepared().await.map_err(|error| {
        let step = error.source().and_then(|source| next_step_for(source.downcast_ref()?));
        let failure = CommandFailure::failed(&error);
        match step {
            Some(step) => failure.next_step(step),
            None => failure,
        }
    })
}

/// The routes that components and the dashboard add to the API.
pub fn routes(daemon: &DaemonSettings, metrics: &Metrics) -> Vec<ExtraRoute> {
    let dashboard = daemon.dashboard.then(dashboard_routes).into_iter().flatten();
    std::iter::once(metrics.route()).chain(dashboard).collect()
}

/// The exporter, with the counters of the router, where it listens.
pub fn metrics(
    context: &Context,
    exports: &ExportSettings,
    traffic: Option<Arc<RouterTraffic>>,
) -> Result<Metrics, CommandFailure> {
    let exemplars = if exports.exports_traces() { Exemplars::TraceIds } else { Exemplars::None };
    Metrics::build(context, env!("CARGO_PKG_VERSION"), exemplars, traffic)
        .map_err(|error| CommandFailure::failed(format!("cannot set up the metrics: {error}")))
}

/// The daemons of other machines.
pub fn peers(configuration: &Configuration) -> Peers {
    let peers = configuration.peers();
    for warning in peers.iter().filter_map(|peer| open_to_others(peer.token_file.as_deref()?)) {
        tracing::warn!("{warning}");
    }
    Peers::new(peers)
}

/// The keys of the router's clients, where it listens and needs some.
pub fn keys_file(router: &RouterSettings) -> Result<Option<KeysFile>, CommandFailure> {
    let path = router.keys_file.as_deref().filter(|_| router.listen != RouterAddress::Off);
    path.map(KeysFile::open).transpose()
}

/// The counters of the router, where it listens, and its finished requests, where they are logged or exported.
pub fn traffic(
    router: &RouterSettings,
    exports: &ExportSettings,
) -> Option<(Arc<RouterTraffic>, Option<FinishedRequests>)> {
    if router.listen == RouterAddress::Off {
        return None;
    }
    if !router.access_log && !exports.exports_traces() {
        return Some((Arc::default(), None));
    }
    let (traffic, finished) = RouterTraffic::logged();
    Some((Arc::new(traffic), Some(finished)))
}

/// Exports traces, metrics and log records if the environment names a collector; otherwise nothing is started. What is wrong with the
/// collector or its variables is no reason not to run servers.
pub fn start_exports(settings: &ExportSettings, bus: Bus) -> Option<Exports> {
    for problem in settings.problems() {
        tracing::warn!(%problem, "this is not followed; fix or unset the OTEL_* variable");
    }
    let source = ExportSource { version: env!("CARGO_PKG_VERSION"), bus };
    let (exports, errors) = settings.is_on().then(|| Exports::start(settings, &source))?;
    for error in errors {
        tracing::warn!(error = with_source(&error), "nothing of it is sent to the collector");
    }
    Some(exports)
}

/// Tells systemd about the daemon, if systemd started it. What systemd says wrongly costs its notices, not the servers.
pub fn systemd(context: &Context, listeners: &Listeners) -> Option<Systemd> {
    let environment = SystemdEnvironment::read(|name| std::env::var_os(name))
        .inspect_err(|error| tracing::warn!(error = %with_source(error), "systemd is not told about the daemon"))
        .ok()??;
    Some(Systemd::build(context, environment, listeners.tcp_copy()))
}

/// Watches the file of a configuration, of which `latest` was read last.
pub fn watch_configuration(source: &ConfigSource, latest: LatestText) -> Option<ConfigWatch> {
    if source.kind == SourceKind::Stream {
        let path = source.path.as_ref().map(|path| path.display().to_string());
        tracing::info!(path, "the configuration is read once: it is no file whose changes can be followed");
    }
    source.file().map(|path| ConfigWatch::new(path, latest))
}

/// A file of `readiness.detectors-dir` is refused.
pub fn refused_pack(error: PluginSetError) -> CommandFailure {
    refused_file(error, "readiness.detectors-dir")
}

/// A file of `llama-server.dialects-dir` is refused.
fn refused_dialect(error: PluginSetError) -> CommandFailure {
    refused_file(error, "llama-server.dialects-dir")
}

fn refused_file(error: PluginSetError, key: &str) -> CommandFailure {
    CommandFailure::usage(error).next_step(format!("fix the file, or take it out of {key}"))
}
