//! `wait`: until servers are ready, or stopped.

use std::time::Duration;

use llama_warden_daemon::{Exit, Failure};
use llama_warden_state::{PhaseName, ServerReport, StatusReport};

use super::status;
use crate::args::{Global, Goal, WaitArgs};
use crate::connect;
use crate::output::print_json;
use crate::table;

pub async fn run(global: &Global, args: &WaitArgs) -> Result<Exit, Failure> {
    let client = connect::client(global)?;
    let waiting = async {
        let mut report = status::fetch(&client, &args.ids).await?;
        let mut changes = status::changes(&client, report.seq).await?;
        loop {
            if let Some(exit) = verdict(&report, args.goal) {
                return Ok((report, exit));
            }
            match changes.next().await {
                Ok(Some(_)) => report = status::fetch_changed(&client, &args.ids).await?.unwrap_or(report),
                // A daemon that has ended has stopped every server.
                Ok(None) if args.goal == Goal::Stopped => return Ok((report, Exit::Done)),
                Ok(None) => return Err(Failure::new(Exit::NotReached, "the daemon has ended")),
                Err(error) => return Err(connect::failure(error)),
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
        eprintln!("{}", table::line(server));
    }
    Ok(exit)
}

/// Done when all have reached the goal; not reached as soon as one of them cannot any more.
fn verdict(report: &StatusReport, goal: Goal) -> Option<Exit> {
    let hopeless = |server: &ServerReport| goal == Goal::Ready && server.phase == PhaseName::Failed;
    if report.servers.iter().all(|server| reached(server, goal)) {
        Some(Exit::Done)
    } else if report.servers.iter().any(hopeless) {
        Some(Exit::NotReached)
    } else {
        None
    }
}

fn reached(server: &ServerReport, goal: Goal) -> bool {
    match goal {
        Goal::Ready => server.is_ready,
        Goal::Stopped => server.phase.is_settled_down(),
    }
}
