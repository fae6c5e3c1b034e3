//! Builds the settings of each component from the configuration and the environment.
//!
//! Everything here may fail, and nothing here starts anything but the exporter of spans: a daemon that is refused has
//! launched no server.

use std::path::Path;
use std::sync::Arc;

use llama_warden_api::Listeners;
use llama_warden_component::Context;
use llama_warden_config::{ConfigSource, Configuration, Fleet, TcpAddress};
use llama_warden_events::BootId;
use llama_warden_launcher::{LauncherSettings, ShimProgram};
use llama_warden_memory::SystemMemoryProbe;
use llama_warden_plugin_files::{PluginFile, PluginSet};
use llama_warden_readiness::Readiness;
use llama_warden_supervisor::{FleetSource, SupervisorLimits, SupervisorSettings};
use llama_warden_telemetry::{Tracing, TracingError, TracingSettings};
use tokio::sync::watch;

use crate::config_watch::ConfigWatch;
use crate::exit::{CommandFailure, with_source};
use crate::extensions::MakeMatcher;
use crate::state_dir::StateDir;

/// Reads output with the configured detector packs, and with `matchers` where they make one. Registers its taps on the
/// output lane.
pub fn readiness(
    configuration: &Configuration,
    context: &Context,
    matchers: Option<MakeMatcher>,
) -> Result<Readiness, CommandFailure> {
    let directory = configuration.detectors_dir();
    let packs = plugin_set(directory, "readiness.detectors-dir")?;
    let readiness = Readiness::new(context.fleet(), packs, context.lane()).watching(directory.map(Path::to_owned));
    Ok(match matchers {
        Some(make) => readiness.with_matchers(make),
        None => readiness,
    })
}

/// Launches with the configured dialects, from the daemon's own environment.
pub fn launcher(
    configuration: &Configuration,
    boot: BootId,
    state: &StateDir,
) -> Result<LauncherSettings, CommandFailure> {
    let directory = configuration.dialects_dir();
    Ok(LauncherSettings {
        boot,
        shim: ShimProgram::OwnExecutable,
        environment: std::env::vars_os().collect(),
        dialects: plugin_set(directory, "llama-server.dialects-dir")?,
        dialects_dir: directory.map(Path::to_owned),
        state_dir: Some(state.path().to_owned()),
    })
}

/// Runs the servers of `fleet`, within the configured limits; `source` resolves changes.
pub fn supervisor(
    configuration: &Configuration,
    fleet: watch::Sender<Fleet>,
    source: FleetSource,
    state: &StateDir,
) -> SupervisorSettings {
    let start = configuration.start();
    SupervisorSettings {
        fleet,
        profiles: configuration.profiles(),
        source,
        limits: SupervisorLimits {
            shutdown: configuration.daemon().shutdown_deadline,
            starts: start.max_concurrent.map(|most| most.get() as usize),
            memory: start.memory,
        },
        memory_probe: Arc::new(SystemMemoryProbe::new()),
        seed: fastrand::u64(..),
        state_dir: Some(state.path().to_owned()),
    }
}

/// Exports spans if the environment names a collector; otherwise nothing is started.
pub fn start_tracing(boot: &BootId) -> Result<Option<Tracing>, CommandFailure> {
    let failed = |error: TracingError| CommandFailure::usage(error).next_step("fix or unset the OTEL_* variable");
    let Some(settings) = TracingSettings::from_env().map_err(failed)? else { return Ok(None) };
    Tracing::start(&settings, env!("CARGO_PKG_VERSION"), boot).map(Some).map_err(failed)
}

/// Binds the control socket and, where one is configured, the TCP address.
pub fn bind(listen: Option<&TcpAddress>, state: &StateDir) -> Result<Listeners, CommandFailure> {
    let tcp = listen.map(|address| (address.host.as_str(), address.port));
    Listeners::bind(tcp, &state.control_socket())
        .map_err(|error| CommandFailure::failed(with_source(&error)).next_step(error.next_step()))
}

/// Watches the file of a configuration. If the kernel refuses a watch, the daemon runs without: HUP still reloads.
pub fn watch_configuration(source: &ConfigSource) -> Option<ConfigWatch> {
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

/// The plug-in files of `directory`, which the configuration names under `key`, before the built-in ones.
fn plugin_set<F: PluginFile>(directory: Option<&Path>, key: &str) -> Result<PluginSet<F>, CommandFailure> {
    directory
        .map_or_else(|| Ok(PluginSet::built_in()), PluginSet::load)
        .map_err(|error| CommandFailure::usage(error).next_step(format!("fix the file, or take it out of {key}")))
}
