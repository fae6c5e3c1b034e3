//! `up` and `demo`: the daemon in the foreground.

use std::time::Duration;

use llama_warden_bus::Bus;
use llama_warden_config::{Environment, Fleet};
use llama_warden_daemon::models::Inventory;
use llama_warden_daemon::{
    CommandFailure, Exit, LoadedConfig, Matchers, PreparedDaemon, UpOptions, build_runtime, print_warnings,
    shut_down_runtime, use_one_arena,
};
use llama_warden_state::StatusReport;
use llama_warden_telemetry::{LogSettings, start_logging};

use crate::args::{GlobalArgs, UpArgs};
use crate::demo::Demo;
use crate::live_table::LiveTable;
use crate::output::print_line;

/// How often a moving table is drawn without a change.
const TICK: Duration = Duration::from_secs(1);

pub fn run(global: &GlobalArgs, args: &UpArgs, matchers: Option<&Matchers>) -> Result<Exit, CommandFailure> {
    use_one_arena();
    let inventory = Inventory::scan(LoadedConfig::find_with_models(global.config.as_deref(), &args.models)?)?;
    print_warnings(inventory.loaded.configuration.warnings());
    let inventory = inventory.compacted(args.profile.as_deref(), &Fleet::default());
    let settings = log_settings()?;
    let log = start_logging(&settings).map_err(|error| CommandFailure::new(Exit::Failed, error))?;
    let options = UpOptions { profile: args.profile.clone(), only: args.servers.clone(), matchers: matchers.cloned() };
    let runtime = build_runtime()?;
    let exit = runtime.block_on(async {
        let daemon = PreparedDaemon::prepare(inventory, &options).await?;
        let http = daemon.tcp().map_or_else(String::new, |address| format!("http://{address}"));
        let control = daemon.control_socket();
        tracing::info!(%http, control = %control.display(), servers = daemon.servers(), "llama-warden is up");
        if daemon.servers() == 0 {
            tracing::warn!(
                "no server is configured: write a [[servers]] table, name a folder with --models, or try `llama-warden demo`"
            );
        }
        daemon.run().await
    });
    shut_down_runtime(runtime);
    drop(log);
    exit
}

pub fn demo(matchers: Option<&Matchers>) -> Result<Exit, CommandFailure> {
    use_one_arena();
    let demo = Demo::prepare()?;
    print_line(format_args!("demo: running {}", demo.binary().describe()))?;
    let inventory = Inventory::scan(LoadedConfig::parse(&demo.source(), Environment::current())?)?
        .compacted(None, &Fleet::default());
    // The table tells the story; lines between its lines would tear it.
    let quiet = LogSettings { filter: "error".to_owned(), ..log_settings()? };
    let settings = if std::env::var_os("LLAMA_WARDEN_LOG").is_some() { log_settings()? } else { quiet };
    let log = start_logging(&settings).map_err(|error| CommandFailure::new(Exit::Failed, error))?;
    let runtime = build_runtime()?;
    let exit = runtime.block_on(async {
        let daemon =
            PreparedDaemon::prepare(inventory, &UpOptions { matchers: matchers.cloned(), ..UpOptions::default() })
                .await?;
        if let Some(address) = daemon.tcp() {
            print_line(format_args!("  status   curl http://{address}/api/v1/status     (or: llama-warden status)"))?;
            print_line(format_args!("  metrics  curl http://{address}/metrics"))?;
            print_line("  stop     Ctrl-C\n")?;
        }
        let table = tokio::spawn(follow(daemon.bus()));
        let exit = daemon.run().await;
        // The last events are in; the table ends with them.
        table.abort();
        let _ = table.await;
        exit
    })?;
    shut_down_runtime(runtime);
    drop(log);
    print_line("everything is stopped")?;
    Ok(exit)
}

async fn follow(bus: Bus) {
    let mut table = LiveTable::new();
    let mut snapshots = bus.watch();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        table.show(&StatusReport::of(&snapshot, bus.clock().now()));
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(TICK), if table.shows_time() => {}
        }
    }
}

fn log_settings() -> Result<LogSettings, CommandFailure> {
    LogSettings::from_env()
        .map_err(|error| CommandFailure::new(Exit::Usage, error).next_step("unset it, or set LLAMA_WARDEN_LOG=info"))
}
