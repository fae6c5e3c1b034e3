//! `wait`: waits until servers are ready, or stopped.

use std::time::Duration;

use llama_warden_api_types::{ServerReport, StatusReport};
use llama_warden_daemon::{CommandFailure, CommandResult, Exit};
use llama_warden_state::PhaseName;

use super::status;
use crate::args::{GlobalArgs, WaitArgs, WaitGoal};
use crate::connect;
use crate::output::print_json;
use crate::status_table;

pub async fn run(global: &GlobalArgs, args: &WaitArgs) -> CommandResult {
    let client = connect::to_daemon(global)?;
    let waiting = async {
        let mut report = status::fetch(&client, &args.ids).await?;
        // From the report's event on, so that no change between the two requests is missed.
        let mut changes = status::changes(&client, report.seq).await?;
        loop {
            if let Some(exit) = outcome(&report, args.goal) {
                return Ok((report, exit));
            }
            match changes.next().await {
                Ok(Some(_)) => report = status::fetch_changed(&client, &args.ids).await?.unwrap_or(report),
                // The daemon stops every server before it ends.
                Ok(None) if args.goal == WaitGoal::Stopped => return Ok((report, Exit::Done)),
                Ok(None) => return Err(CommandFailure::new(Exit::NotReached, "the daemon has ended")),
                Err(error) => return Err(connect::request_failure(error)),
            }
        }
    };
    let limit = args.timeout.unwrap_or(Duration::MAX);
    let (report, exit) = match tokio::time::timeout(limit, waiting).await {
        Ok(ended) => ended?,
        Err(_) => (status::fetch(&client, &args.ids).await?, Exit::NotReached),
    };
    if global.json {
        print_json(&report)?;
    }
    for server in report.servers.iter().filter(|server| exit == Exit::NotReached && !reached(server, args.goal)) {
        eprintln!("{}", status_table::server_line(server));
    }
    Ok(exit)
}

/// [`Exit::Done`] if every server has reached the goal; [`Exit::NotReached`] if one has failed; otherwise `None`.
fn outcome(report: &StatusReport, goal: WaitGoal) -> Option<Exit> {
    let hopeless = |server: &ServerReport| goal == WaitGoal::Ready && server.phase == PhaseName::Failed;
    if report.servers.iter().all(|server| reached(server, goal)) {
        Some(Exit::Done)
    } else if report.servers.iter().any(hopeless) {
        Some(Exit::NotReached)
    } else {
        None
    }
}

fn reached(server: &ServerReport, goal: WaitGoal) -> bool {
    match goal {
        WaitGoal::Ready => server.is_ready,
        WaitGoal::Stopped => server.phase.is_settled_down(),
    }
}
