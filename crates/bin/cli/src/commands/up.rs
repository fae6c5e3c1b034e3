//! `up`: the daemon in the foreground.

use std::collections::BTreeMap;
use std::convert::Infallible;

use llama_warden_api_types::base_url;
use llama_warden_bus::Bus;
use llama_warden_config::{Environment, Fleet, search_places};
use llama_warden_connect::GlobalArgs;
use llama_warden_daemon::{Extensions, PreparedDaemon, UpOptions, build_runtime, inherited_sockets, set_up_heap};
use llama_warden_events::{Incarnation, ServerId};
use llama_warden_exit::{CommandFailure, CommandResult};
use llama_warden_inventory::Inventory;
use llama_warden_inventory::{LoadedConfig, print_warnings};
use llama_warden_state::DaemonPhase;
use llama_warden_telemetry::LogFormat;
use llama_warden_terminal::daemon_log::{DaemonLog, LogPipe, log_settings};
use llama_warden_terminal::fleet_view::{FleetView, FleetViewKind};
use llama_warden_terminal::output::{print_json, print_line};
use llama_warden_terminal::screen::Screen;
use serde_json::json;
use tracing::level_filters::LevelFilter;

use crate::args::UpArgs;
use crate::commands::take_over;

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
    let has_taken_over = args.take_over && build_runtime()?.block_on(take_over::run(&inventory, args))?.is_some();
    let inventory = inventory.compacted(args.profile.as_deref(), &Fleet::default());
    let options = UpOptions { profile: args.profile.clone(), only: args.servers.clone(), sockets, extensions };
    let has_table = !args.plain && !global.json && can_have_table()?;
    let level = if has_table { LevelFilter::WARN } else { LevelFilter::INFO };
    let (mut view, mut is_up) = (None, false);
    let exit = run_daemon(
        inventory,
        options,
        DaemonLog::start(&log_settings(level)?, has_table)?,
        async |daemon, log| {
            is_up = true;
            let http = daemon.tcp.as_ref().map_or_else(String::new, |address| format!("http://{address}"));
            let control = daemon.control_socket();
            let router = daemon.router.as_ref().map(|router| router.base_url.clone());
            tracing::info!(%http, router = router.as_deref(), control = %control.display(), servers = daemon.servers, "llama-warden is up");
            if daemon.servers == 0 {
                tracing::warn!("no server is configured{}", searched(from_file));
                tracing::warn!(
                    "name a folder with --models, write a configuration (`llama-warden config init > llama-warden.toml`), or try `llama-warden demo`"
                );
            }
            let bus = daemon.bus();
            if has_table || global.json {
                let kind = if global.json {
                    print_json(
                        &json!({ "http": daemon.tcp.as_ref().map(|_| &http), "router": router, "control": control }),
                    )?;
                    FleetViewKind::Json
                } else {
                    let address = if http.is_empty() { format!("unix:{}", control.display()) } else { http };
                    print_line(format_args!("llama-warden is up on {address}; Ctrl-C stops every server\n"))?;
                    FleetViewKind::Table
                };
                // A terminal that takes no more is no reason to end: if it is gone, HUP comes.
                view = Some(FleetView::start(kind, bus, log).map_err(CommandFailure::failed)?);
                return daemon.run().await;
            }
            tokio::select! {
                exit = daemon.run() => exit,
                never = tell_addresses(&bus) => match never {},
                never = announce_stop(&bus) => match never {},
            }
        },
    );
    view.into_iter().for_each(FleetView::finish);
    if has_taken_over && !is_up { exit.map_err(take_over::without_daemon) } else { exit }
}

/// Whether a live table may stand where the log would: on a terminal, unless the log is for a program. The output of process 1
/// is the log of a container, also where that has a terminal.
fn can_have_table() -> Result<bool, CommandFailure> {
    let is_for_people = log_settings(LevelFilter::INFO)?.format == LogFormat::Human;
    Ok(is_for_people && std::process::id() != 1 && Screen::now().size.is_some())
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

/// Prepares a daemon on a runtime of its own, and passes it to `run`, with the pipe of a log that goes above a table.
pub fn run_daemon(
    inventory: Inventory,
    options: UpOptions,
    log: DaemonLog,
    run: impl AsyncFnOnce(PreparedDaemon, Option<LogPipe>) -> CommandResult,
) -> CommandResult {
    let runtime = build_runtime()?;
    let DaemonLog { guard, mut pipe } = log;
    let exit = runtime.block_on(async { run(PreparedDaemon::prepare(inventory, options).await?, pipe.take()).await });
    // Does not wait for blocking threads: one of them may read from a disk that never answers.
    runtime.shutdown_background();
    // The guard writes the last lines, so it goes last.
    drop(guard);
    pipe.into_iter().for_each(LogPipe::print);
    exit
}
