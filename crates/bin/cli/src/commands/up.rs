//! `up`: the daemon in the foreground.

use std::collections::BTreeMap;
use std::convert::Infallible;

use llama_warden_api_types::base_url;
use llama_warden_bus::Bus;
use llama_warden_config::{Environment, Fleet, search_places};
use llama_warden_daemon::models::Inventory;
use llama_warden_daemon::{
    CommandFailure, CommandResult, Extensions, LoadedConfig, PreparedDaemon, UpOptions, build_runtime,
    inherited_sockets, print_warnings, set_up_heap,
};
use llama_warden_events::{Incarnation, ServerId};
use llama_warden_state::DaemonPhase;
use llama_warden_telemetry::{LoggingSettings, start_logging};

use crate::args::{GlobalArgs, UpArgs};

pub fn run(global: &GlobalArgs, args: &UpArgs, extensions: Extensions) -> CommandResult {
    set_up_heap();
    if args.own_session {
        // Fails for the leader of a group, which has a session of its own or is started by hand.
        let _ = nix::unistd::setsid();
    }
    let sockets = inherited_sockets();
    let inventory = Inventory::scan(LoadedConfig::find_with_models(global.config.as_deref(), &args.models)?)?;
    let configuration = &inventory.loaded.configuration;
    print_warnings(inventory.warnings());
    print_warnings(configuration.unknown_extensions(&extensions.names()));
    let from_file = configuration.path().is_some();
    let inventory = inventory.compacted(args.profile.as_deref(), &Fleet::default());
    let options = UpOptions { profile: args.profile.clone(), only: args.servers.clone(), sockets, extensions };
    run_daemon(inventory, options, &log_settings()?, async |daemon| {
        let http = daemon.tcp.as_ref().map_or_else(String::new, |address| format!("http://{address}"));
        let control = daemon.control_socket();
        tracing::info!(%http, control = %control.display(), servers = daemon.servers, "llama-warden is up");
        if daemon.servers == 0 {
            tracing::warn!("no server is configured{}", searched(from_file));
            tracing::warn!(
                "name a folder with --models, write a configuration (`llama-warden config init > llama-warden.toml`), or try `llama-warden demo`"
            );
        }
        let bus = daemon.bus();
        tokio::select! {
            exit = daemon.run() => exit,
            never = tell_addresses(&bus) => match never {},
            never = announce_stop(&bus) => match never {},
        }
    })
}

/// Says once that the daemon stops, and how to hurry it: a first Ctrl-C that seems to do nothing invites harder means.
async fn announce_stop(bus: &Bus) -> Infallible {
    if bus.watch().wait_for(|snapshot| snapshot.daemon.phase == DaemonPhase::Stopping).await.is_ok() {
        tracing::info!("stopping every server; the same signal again kills those that are left");
    }
    std::future::pending().await
}

/// Logs the address of each server that becomes ready.
async fn tell_addresses(bus: &Bus) -> Infallible {
    let mut snapshots = bus.watch();
    let mut told: BTreeMap<ServerId, Incarnation> = BTreeMap::new();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        for (server, record) in snapshot.servers.iter().filter(|(_, record)| record.is_ready()) {
            if told.insert(server.clone(), record.incarnation) != Some(record.incarnation) {
                let port = record.process.as_ref().map_or(record.card.port, |process| process.port);
                let url = base_url(&record.card.host, port);
                tracing::info!(%server, %url, "answers requests");
            }
        }
        if snapshots.changed().await.is_err() {
            // The bus has closed, and the daemon ends.
            std::future::pending().await
        }
    }
}

/// Where a configuration was searched, if none was found.
pub fn searched(from_file: bool) -> String {
    if from_file {
        return String::new();
    }
    let places = search_places(&Environment::current(), &std::env::current_dir().unwrap_or_default());
    let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
    format!("; no configuration was found in {}", places.join(", "))
}

/// Starts logging, prepares a daemon on a runtime of its own, and passes it to `run`.
pub fn run_daemon(
    inventory: Inventory,
    options: UpOptions,
    log: &LoggingSettings,
    run: impl AsyncFnOnce(PreparedDaemon) -> CommandResult,
) -> CommandResult {
    let log = start_logging(log).map_err(|error| CommandFailure::of_io(&error, "look at the limits of the machine"))?;
    let runtime = build_runtime()?;
    let exit = runtime.block_on(async { run(PreparedDaemon::prepare(inventory, options).await?).await });
    // Does not wait for blocking threads: one of them may read from a disk that never answers.
    runtime.shutdown_background();
    // The guard writes the last lines, so it goes last.
    drop(log);
    exit
}

/// The log settings of the environment.
pub fn log_settings() -> Result<LoggingSettings, CommandFailure> {
    LoggingSettings::from_env()
        .map_err(|error| CommandFailure::usage(error).next_step("unset it, or give it one of these values"))
}
