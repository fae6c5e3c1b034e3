//! `up`: the daemon in the foreground.

use std::collections::BTreeMap;
use std::convert::Infallible;

use llama_warden_api_types::base_url;
use llama_warden_bus::Bus;
use llama_warden_config::Fleet;
use llama_warden_daemon::models::Inventory;
use llama_warden_daemon::{
    CommandFailure, CommandResult, Extensions, LoadedConfig, PreparedDaemon, UpOptions, build_runtime,
    inherited_sockets, print_warnings, set_up_heap,
};
use llama_warden_events::{Incarnation, ServerId};
use llama_warden_telemetry::{LoggingSettings, start_logging};

use crate::args::{GlobalArgs, UpArgs};

pub fn run(global: &GlobalArgs, args: &UpArgs, extensions: Extensions) -> CommandResult {
    set_up_heap();
    let sockets = inherited_sockets();
    let inventory = Inventory::scan(LoadedConfig::find_with_models(global.config.as_deref(), &args.models)?)?;
    let configuration = &inventory.loaded.configuration;
    print_warnings(inventory.warnings());
    print_warnings(configuration.unknown_extensions(&extensions.names()));
    let inventory = inventory.compacted(args.profile.as_deref(), &Fleet::default());
    let options = UpOptions { profile: args.profile.clone(), only: args.servers.clone(), sockets, extensions };
    run_daemon(inventory, options, &log_settings()?, async |daemon| {
        let http = daemon.tcp.as_ref().map_or_else(String::new, |address| format!("http://{address}"));
        let control = daemon.control_socket();
        tracing::info!(%http, control = %control.display(), servers = daemon.servers, "llama-warden is up");
        if daemon.servers == 0 {
            tracing::warn!(
                "no server is configured: write a [[servers]] table, name a folder with --models, or try `llama-warden demo`"
            );
        }
        let bus = daemon.bus();
        tokio::select! {
            exit = daemon.run() => exit,
            never = tell_addresses(&bus) => match never {},
        }
    })
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

/// Starts logging, prepares a daemon on a runtime of its own, and passes it to `run`.
pub fn run_daemon(
    inventory: Inventory,
    options: UpOptions,
    log: &LoggingSettings,
    run: impl AsyncFnOnce(PreparedDaemon) -> CommandResult,
) -> CommandResult {
    let log = start_logging(log).map_err(CommandFailure::failed)?;
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
        .map_err(|error| CommandFailure::usage(error).next_step("unset it, or set LLAMA_WARDEN_LOG=info"))
}
