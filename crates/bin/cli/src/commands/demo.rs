//! `demo`: a daemon with three servers in a temporary directory, and a live table of them.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Write};

use llama_warden_api_types::StatusReport;
use llama_warden_bus::{Bus, CommandSender};
use llama_warden_config::{Environment, Fleet};
use llama_warden_daemon::models::Inventory;
use llama_warden_daemon::{CommandResult, Extensions, LoadedConfig, UpOptions, set_up_heap};
use llama_warden_events::SuperviseCommand;
use llama_warden_state::DaemonPhase;
use serde_json::json;
use tracing::level_filters::LevelFilter;

use super::up::{log_settings, run_daemon};
use crate::args::GlobalArgs;
use crate::demo_fleet::DemoFleet;
use llama_warden_terminal::live_table::{LiveTable, Place};
use llama_warden_terminal::output::{print_json, print_line, reader_gone};
use llama_warden_terminal::screen::Screen;

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
        // A log line on the same terminal would break the table, which shows the failures of servers too.
        log.level = if Screen::now().size.is_some() { LevelFilter::OFF } else { LevelFilter::ERROR };
    }
    let options = UpOptions { extensions, ..UpOptions::default() };
    let exit = run_daemon(inventory, options, &log, async |daemon| {
        let http = daemon.tcp.as_ref().map(|address| format!("http://{address}"));
        if global.json {
            let control = daemon.control_socket();
            print_json(&json!({ "binary": demo.binary(), "http": http, "control": control }))?;
        } else if let Some(http) = &http {
            print_line("  talk     curl URL/v1/completions -d '{\"prompt\": \"Hi\", \"max_tokens\": 16}'")?;
            print_line(format_args!("  status   llama-warden --address {http} status"))?;
            print_line(format_args!("  metrics  curl {http}/metrics"))?;
            print_line("  stop     Ctrl-C\n")?;
        }
        let (bus, commands) = (daemon.bus(), daemon.commands());
        let mut table = (!global.json).then(|| LiveTable::new(Place::Inline));
        let exit = tokio::select! {
            exit = daemon.run() => exit,
            never = follow(&bus, commands, &mut table) => match never {},
        };
        // The last frame says how everything ended.
        table.iter_mut().for_each(|table| table.notice = None);
        let _ = show(&bus, &mut table);
        exit
    })?;
    if !global.json {
        print_line("everything is stopped")?;
    }
    Ok(exit)
}

/// Shows every change of the snapshot. Ends the daemon when nobody reads the table any more.
async fn follow(bus: &Bus, commands: CommandSender, table: &mut Option<LiveTable>) -> Infallible {
    let gone = async {
        let mut snapshots = bus.watch();
        loop {
            if snapshots.borrow_and_update().daemon.phase == DaemonPhase::Stopping {
                table.iter_mut().for_each(|table| table.notice = Some("stopping; Ctrl-C again kills what is left"));
            }
            if show(bus, table).is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
                return;
            }
            tokio::select! {
                Ok(()) = snapshots.changed() => if let Some(table) = table { table.pause().await },
                () = expired(table) => {}
            }
        }
    };
    tokio::select! {
        () = gone => {}
        () = reader_gone() => {}
    }
    let shut_down = SuperviseCommand::ShutDown { trigger: "nobody reads its output".to_owned(), force: false };
    // Refused only if the daemon ends already.
    let _ = commands.send(shut_down).await;
    std::future::pending().await
}

/// Waits until the table has to be drawn without a change.
async fn expired(table: &mut Option<LiveTable>) {
    match table {
        Some(table) => table.expired().await,
        None => std::future::pending().await,
    }
}

/// Shows the servers in the table; without one, as a line of JSON.
fn show(bus: &Bus, table: &mut Option<LiveTable>) -> io::Result<()> {
    let report = StatusReport::of(&bus.snapshot(), bus.clock().now());
    match table {
        Some(table) => table.show(&report),
        None => writeln!(io::stdout(), "{}", serde_json::to_string(&report)?),
    }
}
