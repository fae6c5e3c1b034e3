//! `status`: every server at a glance.

use std::time::Duration;

use llama_warden_api::client::{Client, ClientError, EventRange};
use llama_warden_daemon::{CommandFailure, Exit};
use llama_warden_events::{Seq, ServerId};
use llama_warden_state::StatusReport;

use crate::args::{GlobalArgs, StatusArgs};
use crate::connect;
use crate::live_table::{LiveTable, keep_named};
use crate::output::{print_json, print_line};
use crate::table;

/// How often the passing of time is drawn.
const TICK: Duration = Duration::from_secs(1);

pub async fn run(global: &GlobalArgs, args: &StatusArgs) -> Result<Exit, CommandFailure> {
    let client = connect::to_daemon(global)?;
    let report = fetch(&client, &args.ids).await?;
    if args.watch {
        return watch(&client, global, args, report).await;
    }
    show(global, &report)?;
    Ok(Exit::Done)
}

fn show(global: &GlobalArgs, report: &StatusReport) -> Result<(), CommandFailure> {
    if global.json {
        return print_json(report);
    }
    print_line(table::status(report))
}

async fn watch(
    client: &Client,
    global: &GlobalArgs,
    args: &StatusArgs,
    first: StatusReport,
) -> Result<Exit, CommandFailure> {
    let mut table = LiveTable::new();
    let mut report = first;
    let mut changes = changes(client, report.seq).await?;
    loop {
        if global.json {
            print_json(&report)?;
        } else {
            table.show(&report);
        }
        tokio::select! {
            change = changes.next() => match change {
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => return Ok(ended()),
            },
            () = tokio::time::sleep(TICK), if table.shows_time() && !global.json => {}
        }
        let Some(changed) = fetch_changed(client, &args.ids).await? else { return Ok(ended()) };
        report = changed;
    }
}

fn ended() -> Exit {
    eprintln!("the daemon has ended");
    Exit::Done
}

/// The report of the servers that are meant.
pub async fn fetch(client: &Client, ids: &[ServerId]) -> Result<StatusReport, CommandFailure> {
    named(client.status().await.map_err(connect::request_failure)?, ids)
}

fn named(report: StatusReport, ids: &[ServerId]) -> Result<StatusReport, CommandFailure> {
    let unknown = ids.iter().find(|id| report.servers.iter().all(|server| server.model_id != **id));
    match unknown {
        None => Ok(keep_named(report, ids)),
        Some(unknown) => {
            let known = report.servers.iter().map(|server| server.model_id.as_str());
            Err(CommandFailure::unknown_server(Exit::Failed, unknown, known))
        }
    }
}

/// The report after a change, unless the daemon takes no questions any more: then it is ending, and the stream of its
/// changes, which it still finishes, tells when.
pub async fn fetch_changed(client: &Client, ids: &[ServerId]) -> Result<Option<StatusReport>, CommandFailure> {
    match client.status().await {
        Ok(report) => named(report, ids).map(Some),
        Err(ClientError::Unreachable { .. } | ClientError::Protocol { .. }) => Ok(None),
        Err(error) => Err(connect::request_failure(error)),
    }
}

/// Follows every change after `seq`; each item says only that something changed.
pub async fn changes(
    client: &Client,
    seq: Seq,
) -> Result<llama_warden_api::client::Records<llama_warden_api::EventRecord>, CommandFailure> {
    client.events(EventRange::After(seq)).await.map_err(connect::request_failure)
}

/// Shows servers, all if none is named, until the daemon cannot be followed any more. Progress is no data: what goes wrong
/// with it is told by the command that it accompanies.
pub async fn show_progress(client: &Client, ids: &[ServerId]) {
    let mut table = LiveTable::new();
    let Ok(report) = client.status().await else { return };
    let Ok(mut changes) = changes(client, report.seq).await else { return };
    table.show(&keep_named(report, ids));
    while let Ok(Some(_)) = changes.next().await {
        let Ok(report) = client.status().await else { return };
        table.show(&keep_named(report, ids));
    }
}
