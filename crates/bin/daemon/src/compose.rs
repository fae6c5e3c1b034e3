//! The composition: one line per component.
//!
//! Each component is built from the context, in which it finds its part of the configuration, as one that is compiled in is. Its other
//! arguments are what it shares with another component, or what was acquired before because it may be refused. A reload reaches
//! components through the fleet of the context.

use std::sync::Arc;

use llama_warden_api::{Api, ApiResources, Listeners};
use llama_warden_canary::Canaries;
use llama_warden_component::{Context, Host};
use llama_warden_config::Fleet;
use llama_warden_event_log::{EventLog, LogReopener};
use llama_warden_exit::CommandFailure;
use llama_warden_health::Health;
use llama_warden_hooks::Hooks;
use llama_warden_inventory::slot_folders;
use llama_warden_launcher::Spawner;
use llama_warden_memory::{MemoryProbe, SystemMemoryProbe};
use llama_warden_readiness::Readiness;
use llama_warden_router::{Router, RouterClients, RouterListener};
use llama_warden_supervisor::Supervisor;
use llama_warden_support::fail_point;
use llama_warden_telemetry::{ExportRecorder, ExportSettings, Telemetry};
use llama_warden_terminator::Terminator;
use tokio::sync::watch;

use crate::documents;
use crate::extensions::Extensions;
use crate::fleet_source::FleetResolver;
use crate::heap::HeapTrimmer;
use crate::keys_file::KeysFile;
use crate::reread_file::FileReader;
use crate::settings;
use crate::state_dir::StateDir;
use crate::state_watch::StateWatch;
use crate::token_file::TokenFile;

/// What was acquired before any component is built, since it may be refused, or since several components share it.
pub struct Resources {
    /// The locked state directory.
    pub state: StateDir,
    /// The file of the API token.
    pub token_file: Option<TokenFile>,
    /// The file of the keys of the router's clients.
    pub keys_file: Option<KeysFile>,
    /// The bound addresses of the API.
    pub listeners: Listeners,
    /// The bound address of the router.
    pub route_listener: RouterListener,
    /// Runs programs.
    pub spawner: Spawner,
    /// What the environment says about a collector.
    pub export_settings: ExportSettings,
    /// Records what is exported, where it names one.
    pub recorder: Option<ExportRecorder>,
    /// Resolves changes of profile and configuration.
    pub resolver: Arc<FleetResolver>,
    /// Tells the fleet in force.
    pub fleet: watch::Sender<Fleet>,
}

/// Builds every component and adds it to the host. Returns what reopens the event log.
///
/// # Errors
/// Two components have one name or own the same set of commands, a set that is sent has no owner, or a component cannot be built.
pub async fn compose(
    host: &mut Host,
    context: &Context,
    resources: Resources,
    extensions: Extensions,
) -> Result<Option<LogReopener>, CommandFailure> {
    let Resources { state, token_file, keys_file, listeners, route_listener, spawner, resolver, fleet, .. } = resources;
    let (configuration, export_settings) = (context.config(), resources.export_settings);
    let memory: Arc<dyn MemoryProbe> = Arc::new(SystemMemoryProbe::new());
    let (traffic, requests) = settings::traffic(configuration.router(), &export_settings).unzip();
    let event_log = EventLog::build(context);
    let reopener = event_log.as_ref().map(EventLog::reopener);
    let metrics = settings::metrics(context, &export_settings, traffic.clone())?;
    let launcher = settings::launcher(context, spawner.clone()).await?;
    fail_point("start-reconciled");
    let (held, totals) = (launcher.held(), launcher.totals());
    let clients = RouterClients { keys: keys_file.as_ref().map(KeysFile::keys), traffic: traffic.unwrap_or_default() };
    let slots = Some(slot_folders(context.state_dir()));
    let loaded = resolver.loaded();

    host.add(Telemetry::build(context, resources.recorder, requests.flatten()))?;
    host.add_any(event_log)?;
    host.add(Readiness::build(context, extensions.matchers).map_err(settings::refused_pack)?)?;
    host.add(launcher)?;
    host.add(Terminator::build(context))?;
    host.add(Health::build(context))?;
    host.add(Hooks::build(context, spawner))?;
    host.add(Canaries::build(context))?;
    host.add(Supervisor::build(context, fleet, resolver.clone().source(), memory.clone()).adopting(held, totals))?;
    host.add(Router::build(context, route_listener, clients, slots))?;
    host.add(StateWatch::build(context, state, listeners.control_rebinder()))?;
    host.add_any(settings::systemd(context, &listeners))?;
    let api = ApiResources {
        token: token_file.as_ref().map(TokenFile::token).unwrap_or_default(),
        routes: settings::routes(configuration.daemon(), &metrics),
        peers: resolver.peers(),
        configuration: loaded.place(),
        description: documents::OPENAPI,
        models: resolver.clone().models_source(),
        memory,
        listeners,
    };
    host.add(metrics)?;
    host.add(Api::build(context, api))?;
    host.add(HeapTrimmer)?;
    host.add_any(token_file.map(FileReader))?;
    host.add_any(keys_file.map(FileReader))?;
    host.add_any(settings::watch_configuration(&loaded.source, resolver.latest_text()))?;
    for extension in extensions.components {
        extension.add_to(host, context)?;
    }
    Ok(host.check().map(|()| reopener)?)
}
