//! `demo`: a daemon with three servers in a temporary directory, and a live table of them.

use std::convert::Infallible;
use std::io::ErrorKind;

use llama_warden_bus::CommandSender;
use llama_warden_config::{Environment, Fleet};
use llama_warden_connect::GlobalArgs;
use llama_warden_daemon::{Extensions, UpOptions, set_up_heap};
use llama_warden_events::SuperviseCommand;
use llama_warden_exit::{CommandFailure, CommandResult};
use llama_warden_inventory::Inventory;
use llama_warden_inventory::LoadedConfig;
use serde_json::json;
use tracing::level_filters::LevelFilter;

use super::up::run_daemon;
use crate::demo_fleet::DemoFleet;
use llama_warden_terminal::daemon_log::{DaemonLog, log_settings};
use llama_warden_terminal::fleet_view::{FleetView, FleetViewKind};
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
    let log = DaemonLog::start(&log_settings(LevelFilter::ERROR)?, !global.json && Screen::now().size.is_some())?;
    let options = UpOptions { extensions, ..UpOptions::default() };
    let mut view = None;
    let exit = run_daemon(inventory, options, log, async |daemon, log| {
        let http = daemon.tcp.as_ref().map(|address| format!("http://{address}"));
        if global.json {
            let control = daemon.control_socket();
            print_json(&json!({ "binary": demo.binary(), "http": http, "control": control }))?;
        } else if let Some(http) = &http {
            print_line("  talk     curl URL/v1/completions -d '{\"prompt\": \"Hi\", \"max_tokens\": 16}'")?;
            print_line(format_args!("  browser  {http}/"))?;
            print_line(format_args!("  status   llama-warden --address {http} status"))?;
            print_line(format_args!("  metrics  curl {http}/metrics"))?;
            print_line("  stop     Ctrl-C\n")?;
        }
        let kind = if global.json { FleetViewKind::Json } else { FleetViewKind::Table };
        let shown = FleetView::start(kind, daemon.bus(), log).map_err(CommandFailure::failed)?;
        let (shown, commands) = (view.insert(shown), daemon.commands());
        tokio::select! {
            exit = daemon.run() => exit,
            never = end_unread(commands, shown) => match never {},
        }
    });
    view.into_iter().for_each(FleetView::finish);
    let exit = exit?;
    if !global.json {
        print_line("everything is stopped")?;
    }
    Ok(exit)
}

/// Ends the daemon when nobody reads its output any more.
async fn end_unread(commands: CommandSender, view: &mut FleetView) -> Infallible {
    let unread = async {
        if view.is_broken().await.kind() != ErrorKind::BrokenPipe {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = unread => {}
        () = reader_gone() => {}
    }
    let shut_down = SuperviseCommand::ShutDown { trigger: "nobody reads its output".to_owned(), force: false };
    // Refused only if the daemon ends already.
    let _ = commands.send(shut_down).await;
    std::future::pending().await
}
