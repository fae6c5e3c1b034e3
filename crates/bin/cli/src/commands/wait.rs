//! `wait`: waits until servers are ready, or stopped.

use llama_warden_api_types::{ServerReport, StatusReport};
use llama_warden_connect::{self as connect, GlobalArgs};
use llama_warden_daemon::{CommandFailure, CommandResult, Exit};
use llama_warden_state::PhaseName;

use super::status;
use crate::args::{WaitArgs, WaitGoal};
use llama_warden_terminal::live_table::{LiveTable, Place};
use llama_warden_terminal::output::{print_json, write_failure};
use llama_warden_terminal::server_text;

pub async fn run(global: &GlobalArgs, args: &WaitArgs) -> CommandResult {
    let mut latest = None;
    let waiting = follow(global, args, &mut latest);
    let ended = match args.timeout {
        Some(limit) => tokio::time::timeout(limit, waiting).await.ok(),
        None => Some(waiting.await),
    };
    let exit = ended.unwrap_or(Ok(Exit::NotReached))?;
    let Some(report) = latest else { return Err(connect::no_answer(args.timeout.unwrap_or_default())) };
    if global.json {
        print_json(&report)?;
    }
    for server in report.servers.iter().filter(|server| exit == Exit::NotReached && !reached(server, args.goal)) {
        match args.timeout.filter(|_| !is_hopeless(server, args.goal)) {
            Some(limit) => eprintln!("{}: timed out after {limit:?}: {}", server.model_id, server_text::phase(server)),
            None => eprintln!("{}", server_text::server_line(server)),
        }
    }
    Ok(exit)
}

/// Follows the servers to the end of the wait, and keeps the latest report.
async fn follow(global: &GlobalArgs, args: &WaitArgs, latest: &mut Option<StatusReport>) -> CommandResult {
    let client = connect::to_daemon(global).await?;
    let mut table = (!global.json).then(|| LiveTable::new(Place::Inline));
    table.iter_mut().for_each(|table| table.omits_failed = args.goal == WaitGoal::Ready);
    let first = of(args, status::fetch(&client, &args.ids).await?);
    // From the report's event on, so that no change between the two requests is missed.
    let mut changes = status::changes(&client, first.seq).await?;
    let mut report = latest.insert(first);
    loop {
        if let Some(table) = &mut table {
            table.show(report).map_err(write_failure)?;
        }
        if let Some(exit) = outcome(report, args.goal) {
            return Ok(exit);
        }
        let change = tokio::select! {
            change = changes.next() => change,
            error = client.falls_silent() => Err(error),
        };
        match change {
            Ok(Some(_)) => {
                if let Some(changed) = status::fetch_changed(&client, &args.ids).await? {
                    report = latest.insert(of(args, changed));
                }
            }
            // The daemon stops every server before it ends.
            Ok(None) if args.goal == WaitGoal::Stopped => return Ok(Exit::Done),
            Ok(None) => return Err(CommandFailure::new(Exit::NotReached, "the daemon has ended")),
            Err(error) => return Err(connect::request_failure(error)),
        }
    }
}

/// The report without the servers that `--all` does not mean: nothing starts a server that is not enabled.
fn of(args: &WaitArgs, mut report: StatusReport) -> StatusReport {
    let is_meant = |server: &ServerReport| !args.all || args.goal == WaitGoal::Stopped || server.enabled;
    report.servers.retain(is_meant);
    report
}

/// [`Exit::Done`] if every server has reached the goal; [`Exit::NotReached`] if one has failed; otherwise `None`.
fn outcome(report: &StatusReport, goal: WaitGoal) -> Option<Exit> {
    if report.servers.iter().all(|server| reached(server, goal)) {
        Some(Exit::Done)
    } else if report.servers.iter().any(|server| is_hopeless(server, goal)) {
        Some(Exit::NotReached)
    } else {
        None
    }
}

fn is_hopeless(server: &ServerReport, goal: WaitGoal) -> bool {
    goal == WaitGoal::Ready && server.phase == PhaseName::Failed
}

fn reached(server: &ServerReport, goal: WaitGoal) -> bool {
    match goal {
        WaitGoal::Ready => server.is_ready,
        WaitGoal::Stopped => server.phase.is_settled_down(),
    }
}
