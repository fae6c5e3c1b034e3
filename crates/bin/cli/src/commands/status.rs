//! `status`: every server at a glance, and the progress that other commands show while they wait.

use std::time::Duration;

use llama_warden_api_types::{EventRecord, StatusReport};
use llama_warden_client::{Client, ClientError, EventRange, Records};
use llama_warden_daemon::{CommandFailure, CommandResult, Exit};
use llama_warden_events::{Seq, ServerId};

use crate::args::GlobalArgs;
use crate::connect;
use crate::live_table::LiveTable;
use crate::output::{print_either, print_json};
use crate::progress::Progress;
use crate::servers::{ServerSelector, keep_named};
use crate::table;

/// How often the table on a terminal is drawn without a change, for its uptimes.
const REDRAW_INTERVAL: Duration = Duration::from_secs(1);

pub async fn run(global: &GlobalArgs, ids: &[ServerSelector], watch: bool) -> CommandResult {
    let client = connect::to_daemon(global).await?;
    let report = fetch(&client, ids).await?;
    if watch {
        return follow(global, &client, ids, report).await;
    }
    print_either(global, &report, || table::status(&report))
}

async fn follow(
    global: &GlobalArgs,
    client: &Client,
    ids: &[ServerSelector],
    mut report: StatusReport,
) -> CommandResult {
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
pub async fn fetch(client: &Client, ids: &[ServerSelector]) -> Result<StatusReport, CommandFailure> {
    keep_named(client.status().await.map_err(connect::request_failure)?, ids)
}

/// The report after a change; `None` if the daemon no longer accepts requests. It is ending then, and still closes the
/// stream of its changes in order.
pub async fn fetch_changed(client: &Client, ids: &[ServerSelector]) -> Result<Option<StatusReport>, CommandFailure> {
    match client.status().await {
        Ok(report) => keep_named(report, ids).map(Some),
        Err(ClientError::Unreachable { .. } | ClientError::Protocol { .. }) => Ok(None),
        Err(error) => Err(connect::request_failure(error)),
    }
}

/// Follows the events after `seq`. Callers fetch a report for each, whatever it says.
pub async fn changes(client: &Client, seq: Seq) -> Result<Records<EventRecord>, CommandFailure> {
    client.events(EventRange::After(seq)).await.map_err(connect::request_failure)
}

/// Runs `work`. If it waits, shows these servers meanwhile, all for an empty list. Errors of the display are dropped: `work`
/// meets them too, and its failure is printed.
pub async fn with_progress<T>(
    global: &GlobalArgs,
    client: &Client,
    ids: &[ServerId],
    wait: Option<Duration>,
    work: impl Future<Output = T>,
) -> T {
    let only = |mut report: StatusReport| {
        report.servers.retain(|server| ids.is_empty() || ids.contains(&server.model_id));
        report
    };
    let mut progress = Progress::new(global);
    let mut events = None;
    if wait.is_some() && !global.json {
        // Before `work` changes anything.
        if let Ok(report) = client.status().await {
            events = changes(client, report.seq).await.ok();
            progress.begin(&only(report));
        }
    }
    let display = async {
        if let Some(mut events) = events {
            while let Ok(Some(_)) = events.next().await {
                let Ok(report) = client.status().await else { break };
                progress.show(&only(report));
            }
        }
        // Only `work` ends the wait.
        std::future::pending().await
    };
    tokio::select! {
        result = work => result,
        never = display => never,
    }
}
