//! `status --all`: the servers of the daemon and of its peers, which it asks.

use std::io::Write as _;
use std::time::Duration;

use llama_warden_api_types::{AllStatusReport, StatusReport};
use llama_warden_client::Client;
use llama_warden_connect::{
    self as connect, GlobalArgs, ServerSelector, keep_named_of_all, retain_named, retain_named_of_peers,
};
use llama_warden_exit::{CommandFailure, CommandResult};
use llama_warden_terminal::all_table::AllTable;
use llama_warden_terminal::live_table::{LiveTable, Place};
use llama_warden_terminal::output::{print_either, print_json, print_line, write_failure};

use crate::commands::status::until_the_end;

/// How often peers are asked: no event tells what happens there.
const INTERVAL: Duration = Duration::from_secs(2);

pub async fn run(global: &GlobalArgs, ids: &[ServerSelector], watch: bool) -> CommandResult {
    let client = connect::to_daemon(global).await?;
    let report = client.status_of_all().await.map_err(connect::request_failure)?;
    let report = keep_named_of_all(report, ids)?;
    if report.peers.is_empty() {
        eprintln!("no peers: this daemon's configuration has no [peers.NAME]");
    }
    if !watch {
        return print_either(global.json, &report, || AllTable::now(&report).text());
    }
    until_the_end(follow(global, &client, ids, report)).await
}

/// Shows the report again and again, until the daemon ends.
async fn follow(
    global: &GlobalArgs,
    client: &Client,
    ids: &[ServerSelector],
    mut report: AllStatusReport,
) -> Result<(), CommandFailure> {
    let mut table = LiveTable::new(Place::FullScreen);
    let mut told = None;
    loop {
        if global.json {
            print_json(&report)?;
        } else if table.is_live() {
            table.show_all(&report).map_err(write_failure)?;
        } else {
            // Elsewhere than on a terminal, the whole of it where something has changed.
            let state = state(&report);
            if told.as_ref() != Some(&state) {
                print_line(AllTable::now(&report).text())?;
                std::io::stdout().flush().map_err(write_failure)?;
                told = Some(state);
            }
        }
        tokio::time::sleep(INTERVAL).await;
        report = match client.status_of_all().await {
            Ok(mut changed) => {
                retain_named(&mut changed.own, ids);
                retain_named_of_peers(&mut changed.peers, ids);
                changed
            }
            Err(error) if error.is_without_daemon() => return Ok(()),
            Err(error) => return Err(connect::request_failure(error)),
        };
    }
}

/// What is told anew when it changes.
fn state(report: &AllStatusReport) -> Vec<String> {
    let servers = |status: &StatusReport| {
        let states = status.servers.iter().map(|server| format!("{} {}", server.model_id, server.phase));
        states.collect::<Vec<_>>().join("\n")
    };
    let peers = report.peers.iter().map(|peer| {
        let problem = peer.problem.as_ref().map_or("", |problem| problem.reason.as_str());
        format!("{} {problem} {}", peer.name, peer.status.as_ref().map(servers).unwrap_or_default())
    });
    std::iter::once(servers(&report.own)).chain(peers).collect()
}
