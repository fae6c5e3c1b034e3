//! `status`: every server at a glance, and the progress that other commands show while they wait.

use std::time::Duration;

use futures_util::FutureExt as _;
use llama_warden_api_types::{EventRecord, StatusReport};
use llama_warden_client::{Client, ClientError, EventRange, Records};
use llama_warden_connect::{self as connect, GlobalArgs, ServerSelector, keep_named};
use llama_warden_events::Seq;
use llama_warden_exit::{CommandFailure, CommandResult, Exit};

use llama_warden_terminal::interruption::interruption;
use llama_warden_terminal::live_table::{LiveTable, Place};
use llama_warden_terminal::output::{print_either, print_json, reader_gone, write_failure};
use llama_warden_terminal::request_text::detail_lines;
use llama_warden_terminal::status_table::StatusTable;

pub async fn run(global: &GlobalArgs, ids: &[ServerSelector], watch: bool) -> CommandResult {
    let client = connect::to_daemon(global).await?;
    let report = fetch(&client, ids).await?;
    if !watch {
        let requests = || report.servers.iter().map(|server| detail_lines(server, jiff::Timestamp::now()));
        return print_either(global.json, &report, || {
            let table = StatusTable::now(&report).text();
            // Who names servers wants to know more of them.
            let lines: Vec<_> = std::iter::once(table).chain(requests().filter(|_| !ids.is_empty())).collect();
            lines.join("\n")
        });
    }
    let followed = async {
        if global.json {
            follow_json(&client, ids, report).await
        } else {
            follow(&client, ids, report, &mut LiveTable::new(Place::FullScreen)).await
        }
    };
    until_the_end(followed).await
}

/// Follows a daemon until it ends, nobody reads any more, or a signal comes.
pub async fn until_the_end(followed: impl Future<Output = Result<(), CommandFailure>>) -> CommandResult {
    tokio::select! {
        ended = followed => ended?,
        () = reader_gone() => return Ok(Exit::Done),
        // Caught, so that the terminal gets its screen back.
        signal = interruption() => return Ok(Exit::Signaled(signal)),
    }
    eprintln!("the daemon has ended");
    Ok(Exit::Done)
}

/// Whether a stream of changes goes on: not once the daemon has ended.
///
/// # Errors
/// The daemon is there and says nothing any more.
fn goes_on(change: Result<Option<EventRecord>, ClientError>) -> Result<bool, CommandFailure> {
    match change {
        Ok(change) => Ok(change.is_some()),
        Err(error @ ClientError::NoAnswer { .. }) => Err(connect::request_failure(error)),
        // A daemon that is killed breaks the connection.
        Err(_) => Ok(false),
    }
}

/// Prints every change as JSON, until the daemon ends.
async fn follow_json(client: &Client, ids: &[ServerSelector], mut report: StatusReport) -> Result<(), CommandFailure> {
    let mut changes = changes(client, report.seq).await?;
    loop {
        print_json(&report)?;
        if !goes_on(changes.next().await)? {
            return Ok(());
        }
        let Some(changed) = fetch_changed(client, ids).await? else { return Ok(()) };
        report = changed;
    }
}

/// Shows every change in a table, until the daemon ends.
async fn follow(
    client: &Client,
    ids: &[ServerSelector],
    mut report: StatusReport,
    table: &mut LiveTable,
) -> Result<(), CommandFailure> {
    let mut changes = changes(client, report.seq).await?;
    loop {
        table.show(&report).map_err(write_failure)?;
        tokio::select! {
            change = changes.next() => {
                if !goes_on(change)? {
                    return Ok(());
                }
                table.pause().await;
                // What has come meanwhile is in the next report too.
                while let Some(change) = changes.next().now_or_never() {
                    if !goes_on(change)? {
                        return Ok(());
                    }
                }
            }
            () = table.expired() => {}
        }
        let Some(changed) = fetch_changed(client, ids).await? else { return Ok(()) };
        report = changed;
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
    client.events(EventRange::After(seq.into())).await.map_err(connect::request_failure)
}

/// Runs `work`. If it waits, shows the named servers meanwhile, all if none is named, and at last as `work` has left them, and
/// returns the table that has shown them. The caller reports which have failed.
pub async fn with_progress<T>(
    global: &GlobalArgs,
    client: &Client,
    ids: &[ServerSelector],
    wait: Option<Duration>,
    work: impl Future<Output = T>,
) -> (T, Option<LiveTable>) {
    if wait.is_none() || global.json {
        return (work.await, None);
    }
    let mut table = LiveTable::new(Place::Inline);
    table.omits_failed = true;
    // Before `work` changes anything. Errors end the progress silently: `work` meets them too, and its failure is printed.
    let first = client.status().await.ok().and_then(|report| keep_named(report, ids).ok());
    let progress = async {
        if let Some(report) = first
            && table.begin(&report).is_ok()
        {
            let _ = follow(client, ids, report, &mut table).await;
        }
        // Only `work` ends the wait.
        std::future::pending().await
    };
    let result = tokio::select! {
        result = work => result,
        never = progress => never,
    };
    if !table.is_blank()
        && let Ok(report) = client.status().await
        && let Ok(report) = keep_named(report, ids)
    {
        let _ = table.show(&report);
    }
    (result, Some(table))
}
