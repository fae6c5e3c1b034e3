//! The composition: one line per component.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_api::{Api, ApiParts, Listeners, MetricsSource, ModelsSource, Token};
use llama_warden_bus::CompositionError;
use llama_warden_component::Host;
use llama_warden_config::Fleet;
use llama_warden_events::{BootId, ProfileCard};
use llama_warden_health::Health;
use llama_warden_hooks::Hooks;
use llama_warden_launcher::{DialectSet, Launcher, LauncherSettings, ShimProgram};
use llama_warden_memory::SystemMemoryProbe;
use llama_warden_metrics::Exporter;
use llama_warden_plugin_files::{PluginFile, PluginSet, PluginSetError};
use llama_warden_readiness::{PackSet, Readiness};
use llama_warden_supervisor::{FleetSource, Limits, Supervisor, SupervisorSettings};
use llama_warden_telemetry::{EventLog, SpanRecorder, Telemetry};
use llama_warden_terminator::Terminator;
use tokio::sync::watch;

use crate::Matchers;
use crate::daemon::ConfigWatch;
use crate::daemon::heap::Heap;
use crate::documents;

/// What the components are made of.
pub struct Parts {
    /// The id of this run.
    pub boot: BootId,
    /// What servers may inherit from.
    pub environment: Vec<(OsString, OsString)>,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// The configured servers.
    pub fleet: Fleet,
    /// Where other fleets come from.
    pub source: FleetSource,
    /// What is known of models.
    pub models: ModelsSource,
    /// The watch on the configuration, where there is one.
    pub watch: Option<ConfigWatch>,
    /// Bounds in number and time.
    pub limits: Limits,
    /// How output is read.
    pub packs: PackSet,
    /// Where other packs appear while the daemon runs.
    pub detectors_dir: Option<PathBuf>,
    /// What reads output instead.
    pub matchers: Option<Matchers>,
    /// How options are spelled.
    pub dialects: DialectSet,
    /// Where other dialects appear while the daemon runs.
    pub dialects_dir: Option<PathBuf>,
    /// The addresses that were taken.
    pub listeners: Listeners,
    /// What guards the TCP address.
    pub token: Option<Token>,
    /// The configured profiles.
    pub profiles: Vec<ProfileCard>,
    /// What records spans, where a collector is named.
    pub spans: Option<SpanRecorder>,
    /// Bytes after which the event log is rotated; `None` keeps none.
    pub event_log_bytes: Option<u64>,
}

/// Why the daemon cannot be composed.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// A set of commands has two owners.
    #[error(transparent)]
    Owners(#[from] CompositionError),
    /// The table of metrics is inconsistent.
    #[error("cannot set up the metrics: {0}")]
    Metrics(String),
}

/// Adds every component to the host.
///
/// # Errors
/// Where the parts do not fit together.
pub fn compose(host: &mut Host, parts: Parts) -> Result<(), ComposeError> {
    let (fleet_in_force, fleet) = watch::channel(parts.fleet);
    let (bus, lane) = (host.bus().clone(), host.lane().clone());
    let launcher = LauncherSettings {
        boot: parts.boot,
        shim: ShimProgram::OwnExecutable,
        environment: parts.environment,
        dialects: parts.dialects,
        dialects_dir: parts.dialects_dir,
        state_dir: Some(parts.state_dir.clone()),
    };
    let supervisor = SupervisorSettings {
        fleet: fleet_in_force,
        profiles: parts.profiles,
        source: parts.source,
        limits: parts.limits,
        scales: Arc::new(SystemMemoryProbe::new()),
        seed: fastrand::u64(..),
        state_dir: Some(parts.state_dir.clone()),
    };
    let metrics = exporter(host)?;
    let api = ApiParts {
        listeners: parts.listeners,
        bus,
        lane: lane.clone(),
        metrics,
        models: parts.models,
        description: documents::OPENAPI,
        token: parts.token,
    };

    let readiness = Readiness::new(fleet.clone(), parts.packs, &lane)
        .watching(parts.detectors_dir)
        .with_matchers(move |server, port| parts.matchers.as_ref()?.make(server, port));

    host.add(Telemetry::new(parts.spans))?;
    if let Some(limit) = parts.event_log_bytes {
        host.add(EventLog::new(parts.state_dir, limit))?;
    }
    // Readiness before the launcher: its taps must be on the lane before the first line.
    host.add(readiness)?;
    host.add(Launcher::new(fleet.clone(), lane.clone(), launcher))?;
    host.add(Terminator::new(fleet.clone()))?;
    host.add(Health::new(fleet.clone(), lane.clone()))?;
    host.add(Hooks::new(fleet))?;
    host.add(Supervisor::new(supervisor))?;
    host.add(Api::new(api))?;
    host.add(Heap)?;
    if let Some(watch) = parts.watch {
        host.add(watch)?;
    }
    Ok(())
}

/// The exporter, as the HTTP edge calls it.
fn exporter(host: &Host) -> Result<MetricsSource, ComposeError> {
    let (bus, lane) = (host.bus().clone(), host.lane().clone());
    let exporter = Exporter::new(bus, lane, env!("CARGO_PKG_VERSION"))
        .map_err(|error| ComposeError::Metrics(error.to_string()))?;
    Ok(Arc::new(move |accept| {
        let page = exporter.render(accept).map_err(|error| error.to_string())?;
        Ok((page.content_type, page.body.into_bytes()))
    }))
}

/// The detector packs or flag dialects, built-in and of a directory.
///
/// # Errors
/// Where one of them is broken.
pub fn library<F: PluginFile>(directory: Option<&Path>) -> Result<PluginSet<F>, PluginSetError> {
    directory.map_or_else(|| Ok(PluginSet::built_in()), PluginSet::load)
}
