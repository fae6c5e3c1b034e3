//! `profile switch` and `reload`: apply a change of the whole fleet, and show its plan.

use llama_warden_api_types::ServerReport;
use llama_warden_api_types::SwitchAnswer;
use llama_warden_client::{Client, ClientError, SwitchMode};
use llama_warden_daemon::{CommandFailure, Exit};
use llama_warden_events::SwitchPlan;

use super::control::{LONGEST_WAIT, TIMED_OUT};
use super::status;
use crate::args::GlobalArgs;
use crate::args::fleet::{PatienceArgs, SwitchArgs};
use crate::connect;
use crate::live_table::LiveTable;
use crate::output::{print_json, print_line};
use crate::table;

pub async fn to_profile(global: &GlobalArgs, args: &SwitchArgs) -> Result<Exit, CommandFailure> {
    let client = connect::to_daemon(global)?;
    let manner = if args.dry_run { SwitchMode::DryRun } else { manner(&args.patience) };
    let answer = with_progress(global, &client, manner, client.activate(args.name.as_deref(), manner)).await;
    let answer = answer.map_err(connect::request_failure)?;
    let verb = if args.dry_run { "would be" } else { "is" };
    let profile = args.name.as_ref().map_or_else(|| "no profile".to_owned(), |name| format!("profile {name}"));
    report(global, &format!("{profile} {verb} active"), manner, &answer)
}

pub async fn reload(global: &GlobalArgs, args: &PatienceArgs) -> Result<Exit, CommandFailure> {
    let client = connect::to_daemon(global)?;
    let manner = manner(args);
    let wait = args.wait.then(|| wait(args));
    let answer = with_progress(global, &client, manner, client.reload(wait)).await;
    match answer {
        Ok(answer) => report(global, "the configuration is reloaded", manner, &answer),
        Err(ClientError::Problem(problem)) if problem.status == 422 => {
            Err(CommandFailure::usage(format!("nothing is changed: {}", problem.detail))
                .next_step(problem.next_step.as_deref().unwrap_or_default()))
        }
        Err(error) => Err(connect::request_failure(error)),
    }
}

fn manner(args: &PatienceArgs) -> SwitchMode {
    if args.wait { SwitchMode::Wait(wait(args)) } else { SwitchMode::Begin }
}

fn wait(args: &PatienceArgs) -> std::time::Duration {
    args.timeout.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT)
}

async fn with_progress<T>(
    global: &GlobalArgs,
    client: &Client,
    manner: SwitchMode,
    work: impl Future<Output = T>,
) -> T {
    let table = (matches!(manner, SwitchMode::Wait(_)) && !global.json).then(LiveTable::new);
    status::with_progress(client, &[], table, work).await
}

fn report(
    global: &GlobalArgs,
    headline: &str,
    manner: SwitchMode,
    answer: &SwitchAnswer,
) -> Result<Exit, CommandFailure> {
    if global.json {
        print_json(answer)?;
    } else {
        print_line(headline)?;
        lines(&answer.plan).iter().try_for_each(print_line)?;
    }
    if !matches!(manner, SwitchMode::Wait(_)) {
        return Ok(Exit::Done);
    }
    if answer.outcome.is_none() {
        eprintln!("{TIMED_OUT}");
        return Ok(Exit::NotReached);
    }
    let missing = |server: &&ServerReport| server.enabled && !server.is_ready;
    let missing: Vec<_> = answer.status.servers.iter().filter(missing).collect();
    missing.iter().for_each(|server| eprintln!("{}", table::server_line(server)));
    Ok(if missing.is_empty() { Exit::Done } else { Exit::NotReached })
}

/// A plan in lines: one for each kind of change that it contains.
fn lines(plan: &SwitchPlan) -> Vec<String> {
    let lists = [("stop", &plan.stop), ("restart", &plan.restart), ("start", &plan.start), ("keep", &plan.keep)];
    let listed = lists.into_iter().filter(|(_, servers)| !servers.is_empty());
    listed.map(|(verb, servers)| format!("  {verb}: {}", table::names(servers))).collect()
}

#[cfg(test)]
mod tests {
    use llama_warden_events::ServerId;

    use super::*;

    #[test]
    fn a_plan_says_what_is_done_and_nothing_else() {
        let id = |name| ServerId::new(name).expect("valid");
        let plan = SwitchPlan { stop: vec![id("a")], keep: vec![id("b"), id("c")], ..SwitchPlan::default() };
        assert_eq!(lines(&plan), ["  stop: a", "  keep: b, c"]);
        assert!(lines(&SwitchPlan::default()).is_empty());
    }
}
