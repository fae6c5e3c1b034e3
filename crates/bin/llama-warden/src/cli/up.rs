//! `up` and `demo`: the daemon in the foreground.

use std::time::Duration;

use llama_warden_bus::Bus;
use llama_warden_config::{Environment, Fleet};
use llama_warden_state::StatusReport;
use llama_warden_telemetry::{LoggingSettings, start_logging};

use super::args::{Global, UpArgs};
use super::live::Picture;
use super::print_line;
use crate::Program;
use crate::daemon::{self, Daemon, Order, heap};
use crate::demo::Demo;
use crate::exit::{Exit, Failure};
use crate::load::{self, Loaded};
use crate::models::Inventory;

/// How often a moving picture is drawn without a change.
const TICK: Duration = Duration::from_secs(1);

pub fn run(global: &Global, args: &UpArgs, program: &Program) -> Result<Exit, Failure> {
    heap::share();
    let inventory = Inventory::take(Loaded::find_with_models(global.config.as_deref(), &args.models)?)?;
    load::report_all(inventory.loaded.configuration.warnings());
    let inventory = inventory.resting(args.profile.as_deref(), &Fleet::default());
    let settings = log_settings()?;
    let log = start_logging(&settings).map_err(|error| Failure::new(Exit::Failed, error))?;
    let order = Order { profile: args.profile.clone(), only: args.servers.clone(), matchers: program.matchers.clone() };
    let runtime = daemon::runtime()?;
    let exit = runtime.block_on(async {
        let daemon = Daemon::prepare(inventory, &order).await?;
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
    daemon::let_go(runtime);
    drop(log);
    exit
}

pub fn demo(program: &Program) -> Result<Exit, Failure> {
    heap::share();
    let demo = Demo::prepare()?;
    print_line(format_args!("demo: running {}", demo.binary().describe()))?;
    let inventory =
        Inventory::take(Loaded::parse(&demo.source(), Environment::current())?)?.resting(None, &Fleet::default());
    // The table tells the story; lines between its lines would tear it.
    let quiet = LoggingSettings { filter: "error".to_owned(), ..log_settings()? };
    let settings = if std::env::var_os("LLAMA_WARDEN_LOG").is_some() { log_settings()? } else { quiet };
    let log = start_logging(&settings).map_err(|error| Failure::new(Exit::Failed, error))?;
    let runtime = daemon::runtime()?;
    let exit = runtime.block_on(async {
        let daemon =
            Daemon::prepare(inventory, &Order { matchers: program.matchers.clone(), ..Order::default() }).await?;
        if let Some(address) = daemon.tcp() {
            print_line(format_args!("  status   curl http://{address}/api/v1/status     (or: llama-warden status)"))?;
            print_line(format_args!("  metrics  curl http://{address}/metrics"))?;
            print_line("  stop     Ctrl-C\n")?;
        }
        let picture = tokio::spawn(follow(daemon.bus()));
        let exit = daemon.run().await;
        // The last events are in; the picture ends with them.
        picture.abort();
        let _ = picture.await;
        exit
    })?;
    daemon::let_go(runtime);
    drop(log);
    print_line("everything is stopped")?;
    Ok(exit)
}

async fn follow(bus: Bus) {
    let mut picture = Picture::new();
    let mut snapshots = bus.watch();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        picture.show(&StatusReport::of(&snapshot, bus.clock().now()));
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(TICK), if picture.is_moving() => {}
        }
    }
}

fn log_settings() -> Result<LoggingSettings, Failure> {
    LoggingSettings::from_env()
        .map_err(|error| Failure::new(Exit::Usage, error).next_step("unset it, or set LLAMA_WARDEN_LOG=info"))
}
