//! The composition: one line per component.

use llama_warden_api::Api;
use llama_warden_canary::Canaries;
use llama_warden_component::{CompositionError, Context, Host};
use llama_warden_event_log::EventLog;
use llama_warden_events::BootId;
use llama_warden_health::Health;
use llama_warden_hooks::Hooks;
use llama_warden_launcher::{Launcher, Spawner};
use llama_warden_metrics::Metrics;
use llama_warden_readiness::Readiness;
use llama_warden_router::Router;
use llama_warden_supervisor::{Supervisor, SupervisorSettings};
use llama_warden_systemd::Systemd;
use llama_warden_telemetry::{ExportRecorder, RequestRecords, Telemetry};
use llama_warden_terminator::Terminator;

use crate::config_watch::ConfigWatch;
use crate::extensions::Extension;
use crate::heap::HeapTrimmer;
use crate::keys_file::KeysFile;
use crate::reread_file::FileReader;
use crate::state_watch::StateWatch;
use crate::token_file::TokenFile;

/// The settings of each component; `settings` builds them.
pub struct ComponentSettings {
    /// Records what is exported, where the environment names a collector.
    pub telemetry: Option<ExportRecorder>,
    /// Keeps events on disk, where `logs.event-log` says so.
    pub event_log: Option<EventLog>,
    /// The finished requests of the router, where they are logged or exported.
    pub requests: Option<RequestRecords>,
    /// Built already: its taps have to be on the output lane before the first line.
    pub readiness: Readiness,
    /// The id of this run.
    pub boot: BootId,
    /// Runs programs.
    pub spawner: Spawner,
    /// Prepared already: what the disk or the kernel refuses ends the start.
    pub launcher: Launcher,
    /// Limits, profiles, and the sender of the fleet.
    pub supervisor: SupervisorSettings,
    /// Bound already, where it listens.
    pub router: Router,
    /// Listeners, token, and what the endpoints read.
    pub api: Api,
    /// The exporter, whose route the API serves.
    pub metrics: Metrics,
    /// Keeps the API token up to date, where a file holds one.
    pub token_file: Option<TokenFile>,
    /// Keeps the keys of the router's clients up to date, where a file holds them.
    pub keys_file: Option<KeysFile>,
    /// Asks for reloads, where the configuration is a file and the kernel watches it.
    pub config_watch: Option<ConfigWatch>,
    /// Notices when the state directory is removed or replaced.
    pub state_watch: StateWatch,
    /// Tells systemd about the daemon, where systemd started it.
    pub systemd: Option<Systemd>,
    /// Add the components that are compiled in.
    pub extensions: Vec<Extension>,
}

/// Adds every component to the host.
///
/// # Errors
/// Two components have one name or own the same set of commands, a set that is sent has no owner, or a component cannot be built.
pub fn compose(host: &mut Host, context: &Context, settings: ComponentSettings) -> Result<(), CompositionError> {
    let (fleet, lane) = (context.fleet(), context.lane().clone());
    host.add(Telemetry::new(settings.telemetry).with_requests(settings.requests))?;
    settings.event_log.map_or(Ok(()), |event_log| host.add(event_log))?;
    host.add(settings.readiness)?;
    host.add(settings.launcher)?;
    host.add(Terminator::new(fleet.clone()))?;
    host.add(Health::new(fleet.clone(), lane))?;
    host.add(Hooks::new(fleet, settings.boot, settings.spawner))?;
    host.add(Canaries::new(context.bus().clone(), context.fleet(), context.lane().clone()))?;
    host.add(Supervisor::new(settings.supervisor))?;
    host.add(settings.router)?;
    host.add(settings.metrics)?;
    host.add(settings.api)?;
    host.add(HeapTrimmer)?;
    settings.token_file.map_or(Ok(()), |file| host.add(FileReader(file)))?;
    settings.keys_file.map_or(Ok(()), |file| host.add(FileReader(file)))?;
    settings.config_watch.map_or(Ok(()), |config_watch| host.add(config_watch))?;
    host.add(settings.state_watch)?;
    settings.systemd.map_or(Ok(()), |systemd| host.add(systemd))?;
    settings.extensions.into_iter().try_for_each(|extension| (extension.add)(host, context))?;
    host.check()
}
