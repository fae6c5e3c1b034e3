//! `demo`: a daemon with three servers in a temporary directory, and a live table of them.

use std::time::Duration;

use llama_warden_api_types::StatusReport;
use llama_warden_bus::Bus;
use llama_warden_config::{Environment, Fleet};
use llama_warden_daemon::models::Inventory;
use llama_warden_daemon::{CommandResult, Extensions, LoadedConfig, UpOptions, set_up_heap};
use serde_json::json;

use super::up::{log_settings, run_daemon};
use crate::args::GlobalArgs;
use crate::demo_fleet::DemoFleet;
use crate::live_table::LiveTable;
use crate::output::{print_json, print_line};

/// How often the table on a terminal is drawn without a change, for its uptimes.
const REDRAW_INTERVAL: Duration = Duration::from_secs(1);

pub fn run(global: &GlobalArgs, extensions: Extensions) -> CommandResult {
    set_up_heap();
    let demo = DemoFleet::prepare()?;
    if !global.json {
        print_line(format_args!("demo: running {}", demo.binary()))?;
    }
    let inventory = Inventory::scan(LoadedConfig::parse(demo.source(), Environment::current())?)?
        .compacted(None, &Fleet::default());
    let mut log = log_settings()?;
    if std::env::var_os("LLAMA_WARDEN_LOG").is_none() {
        // Log lines between those of the table would break it.
        log.filter = "error".to_owned();
    }
    let options = UpOptions { extensions, ..UpOptions::default() };
    let exit = run_daemon(inventory, options, &log, async |daemon| {
        let control = daemon.control_socket();
        if global.json {
            let http = daemon.tcp.as_ref().map(|address| format!("http://{address}"));
            print_json(&json!({ "binary": demo.binary(), "http": http, "control": control }))?;
        } else if let Some(address) = &daemon.tcp {
            print_line(format_args!("  status   llama-warden --address http://{address} status"))?;
            print_line(format_args!("  metrics  curl http://{address}/metrics"))?;
            print_line("  stop     Ctrl-C\n")?;
        }
        let table = tokio::spawn(follow(global.clone(), daemon.bus()));
        let exit = daemon.run().await;
        // The last events are in the snapshot. Joined, so that the table writes nothing after this.
        table.abort();
        let _ = table.await;
        exit
    })?;
    if !global.json {
        print_line("everything is stopped")?;
    }
    Ok(exit)
}

/// Shows every change of the snapshot until the bus closes.
async fn follow(global: GlobalArgs, bus: Bus) {
    let mut table = LiveTable::new();
    let mut snapshots = bus.watch();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        let report = StatusReport::of(&snapshot, bus.clock().now());
        if !global.json {
            table.show(&report);
        } else if print_json(&report).is_err() {
            return;
        }
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(REDRAW_INTERVAL), if table.shows_time() && !global.json => {}
        }
    }
}
