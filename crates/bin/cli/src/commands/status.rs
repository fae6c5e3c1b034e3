//! `status`: every server at a glance, and the progress that other commands show while they wait.

use std::time::Duration;

use llama_warden_api_types::{EventRecord, StatusReport};
use llama_warden_client::{Client, ClientError, EventRange, Records};
use llama_warden_daemon::{CommandFailure, CommandResult, Exit};
use llama_warden_events::{Seq, ServerId};

use crate::args::GlobalArgs;
use crate::connect;
use crate::live_table::{LiveTable, keep_named};
use crate::output::{print_either, print_json};
use crate::table;

/// How often the table on a terminal is drawn without a change, for its uptimes.
const REDRAW_INTERVAL: Duration = Duration::from_secs(1);

pub async fn run(global: &GlobalArgs, ids: &[ServerId], watch: bool) -> CommandResult {
    let client = connect::to_daemon(global)?;
    let report = fetch(&client, ids).await?;
    if watch {
        return follow(global, &client, ids, report).await;
    }
    print_either(global, &report, || table::status(&report))
}

async fn follow(global: &GlobalArgs, client: &Client, ids: &[ServerId], mut report: StatusReport) -> CommandResult {
    let mut table = LiveTable::new();
    let mut changes = changes(client, report.seq).await?;
    loop {
        if global.json {
            print_json(&report)?;
        } else {
            table.show(&report);
        }
        let is_open = tokio::select! {
            change = changes.next() => matches!(change, Ok(Some(_))),
            () = tokio::time::sleep(REDRAW_INTERVAL), if table.shows_time() && !global.json => true,
        };
        let changed = if is_open { fetch_changed(client, ids).await? } else { None };
        match changed {
            Some(changed) => report = changed,
            None => {
                eprintln!("the daemon has ended");
                return Ok(Exit::Done);
            }
        }
    }
}

/// The report of the named servers; of all if none is named.
pub async fn fetch(client: &Client, ids: &[ServerId]) -> Result<StatusReport, CommandFailure> {
    named(client.status().await.map_err(connect::request_failure)?, ids)
}

fn named(report: StatusReport, ids: &[ServerId]) -> Result<StatusReport, CommandFailure> {
    match ids.iter().find(|id| report.servers.iter().all(|server| server.model_id != **id)) {
        None => Ok(keep_named(report, ids)),
        Some(unknown) => {
            let known = report.servers.iter().map(|server| server.model_id.as_str());
            Err(CommandFailure::unknown_server(Exit::Failed, unknown, known))
        }
    }
}

/// The report after a change; `None` if the daemon no longer accepts requests. It is ending then, and still closes the
/// stream of its changes in order.
pub async fn fetch_changed(client: &Client, ids: &[ServerId]) -> Result<Option<StatusReport>, CommandFailure> {
    match client.status().await {
        Ok(report) => named(report, ids).map(Some),
        Err(ClientError::Unreachable { .. } | ClientError::Protocol { .. }) => Ok(None),
        Err(error) => Err(connect::request_failure(error)),
    }
}

/// Follows the events after `seq`. Callers fetch a report for each, whatever it says.
pub async fn changes(client: &Client, seq: Seq) -> Result<Records<EventRecord>, CommandFailure> {
    client.events(EventRange::After(seq.into())).await.map_err(connect::request_failure)
}

/// Runs `work`. If it waits, shows the named servers meanwhile, all if none is named.
pub async fn with_progress<T>(
    global: &GlobalArgs,
    client: &Client,
    ids: &[ServerId],
    wait: Option<Duration>,
    work: impl Future<Output = T>,
) -> T {
    let progress = async {
        if wait.is_some() && !global.json {
            show_progress(client, ids).await;
        }
        // Only `work` ends the wait.
        std::future::pending().await
    };
    tokio::select! {
        result = work => result,
        never = progress => never,
    }
}

/// Shows every change until the daemon can no longer be followed. Errors end it silently: `work` meets them too, and its
/// failure is printed.
async fn show_progress(client: &Client, ids: &[ServerId]) {
    let mut table = LiveTable::new();
    let Ok(report) = client.status().await else { return };
    let Ok(mut changes) = changes(client, report.seq).await else { return };
    table.show(&keep_named(report, ids));
    while let Ok(Some(_)) = changes.next().await {
        let Ok(report) = client.status().await else { return };
        table.show(&keep_named(report, ids));
    }
}
