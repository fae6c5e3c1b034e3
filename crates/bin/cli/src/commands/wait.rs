//! `wait`: waits until servers are ready, or stopped.

use std::io::IsTerminal as _;
use std::time::Duration;

use llama_warden_api_types::{ServerReport, StatusReport};
use llama_warden_connect::{self as connect, GlobalArgs};
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use llama_warden_state::PhaseName;

use super::status;
use crate::args::{WaitArgs, WaitGoal};
use llama_warden_terminal::live_table::{LiveTable, Place};
use llama_warden_terminal::output::{print_json, print_line, print_note, write_failure};
use llama_warden_terminal::server_text;

pub async fn run(global: &GlobalArgs, args: &WaitArgs) -> CommandResult {
    let mut latest = None;
    let mut table = (!global.json).then(|| LiveTable::new(Place::Inline));
    table.iter_mut().for_each(|table| table.omits_failed = args.goal == WaitGoal::Ready);
    let ended = match args.timeout {
        // One look takes as long as the daemon needs to answer.
        None | Some(Duration::ZERO) => Some(follow(global, args, &mut latest, &mut table).await),
        Some(limit) => tokio::time::timeout(limit, follow(global, args, &mut latest, &mut table)).await.ok(),
    };
    let over = args.timeout.filter(|limit| limit.is_zero() || ended.is_none());
    let exit = ended.unwrap_or(Ok(Exit::NotReached))?;
    let Some(report) = latest else { return Err(connect::no_answer(args.timeout.unwrap_or_default())) };
    if global.json {
        print_json(&report)?;
    }
    // The table above says the same on the same terminal.
    let is_shown = table.is_some_and(|table| table.is_live()) && std::io::stderr().is_terminal();
    if let Some(router) = report.router.as_deref().filter(|_| exit == Exit::Done && !global.json && !is_shown) {
        print_line(server_text::router_line(router))?;
    }
    for server in report.servers.iter().filter(|server| exit == Exit::NotReached && !reached(server, args.goal)) {
        let (id, phase) = (&server.model_id, server_text::phase(server));
        match over {
            _ if is_hopeless(server, args.goal) => match server.stopped_by_hand {
                true => print_note(format_args!("{id}: stopped by hand; `llama-warden start {id}` starts it")),
                false if is_shown => {}
                false => eprintln!("{}", server_text::server_line(server)),
            },
            Some(Duration::ZERO) => eprintln!("{id}: {phase}"),
            Some(limit) => eprintln!("{id}: timed out after {limit:?}: {phase}"),
            None => eprintln!("{id}: {phase}; no longer waited for, since another server will not be ready"),
        }
    }
    Ok(exit)
}

/// Follows the servers to the end of the wait, and keeps the latest report. A wait of no time ends with the first one.
async fn follow(
    global: &GlobalArgs,
    args: &WaitArgs,
    latest: &mut Option<StatusReport>,
    table: &mut Option<LiveTable>,
) -> CommandResult {
    let client = connect::to_daemon(global).await?;
    let first = of(args, status::fetch(&client, &args.ids).await?);
    if args.timeout == Some(Duration::ZERO) {
        return Ok(outcome(latest.insert(first), args.goal).unwrap_or(Exit::NotReached));
    }
    // From the report's event on, so that no change between the two requests is missed.
    let mut changes = status::changes(&client, first.seq).await?;
    let mut report = latest.insert(first);
    loop {
        if let Some(table) = table {
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

/// Whether nothing of itself will make the server ready.
fn is_hopeless(server: &ServerReport, goal: WaitGoal) -> bool {
    // A start that was accepted comes, whatever became of the launch before.
    let is_coming = server.phase.is_settled_down() && server.waiting_for.is_some();
    let has_failed = server.phase == PhaseName::Failed || server.restart_abandoned.is_some();
    goal == WaitGoal::Ready && (server.stopped_by_hand || has_failed && !is_coming)
}

fn reached(server: &ServerReport, goal: WaitGoal) -> bool {
    match goal {
        // The stop of one that was stopped by hand has begun, or is about to.
        WaitGoal::Ready => server.is_ready && !server.stopped_by_hand,
        WaitGoal::Stopped => server.phase.is_settled_down(),
    }
}
