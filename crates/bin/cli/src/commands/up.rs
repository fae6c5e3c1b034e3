//! `up`: the daemon in the foreground.

use llama_warden_config::Fleet;
use llama_warden_daemon::models::Inventory;
use llama_warden_daemon::{
    CommandFailure, CommandResult, Extensions, LoadedConfig, PreparedDaemon, UpOptions, build_runtime, print_warnings,
    set_up_heap, with_source,
};
use llama_warden_telemetry::{LoggingSettings, start_logging};

use crate::args::{GlobalArgs, UpArgs};

pub fn run(global: &GlobalArgs, args: &UpArgs, extensions: Extensions) -> CommandResult {
    set_up_heap();
    let inventory = Inventory::scan(LoadedConfig::find_with_models(global.config.as_deref(), &args.models)?)?;
    let configuration = &inventory.loaded.configuration;
    print_warnings(configuration.warnings());
    print_warnings(configuration.unknown_extensions(&extensions.names()));
    let inventory = inventory.compacted(args.profile.as_deref(), &Fleet::default());
    let options = UpOptions { profile: args.profile.clone(), only: args.servers.clone(), extensions };
    run_daemon(inventory, options, &log_settings()?, async |daemon| {
        let http = daemon.tcp.as_ref().map_or_else(String::new, |address| format!("http://{address}"));
        let control = daemon.control_socket();
        tracing::info!(%http, control = %control.display(), servers = daemon.servers, "llama-warden is up");
        if daemon.servers == 0 {
            tracing::warn!(
                "no server is configured: write a [[servers]] table, name a folder with --models, or try `llama-warden demo`"
            );
        }
        daemon.run().await
    })
}

/// Starts logging, prepares a daemon on a runtime of its own, and passes it to `run`.
pub fn run_daemon(
    inventory: Inventory,
    options: UpOptions,
    log: &LoggingSettings,
    run: impl AsyncFnOnce(PreparedDaemon) -> CommandResult,
) -> CommandResult {
    let log = start_logging(log).map_err(|error| CommandFailure::failed(with_source(&error)))?;
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
