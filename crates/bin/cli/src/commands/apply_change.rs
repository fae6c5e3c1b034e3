//! `profile switch` and `reload`: apply a change of the whole fleet, and show its plan.

use std::time::Duration;

use llama_warden_api_types::{ServerReport, SwitchAnswer};
use llama_warden_client::{ClientError, ReloadOptions, SwitchMode};
use llama_warden_connect::{self as connect, GlobalArgs};
use llama_warden_events::SwitchPlan;
use llama_warden_exit::{CommandFailure, CommandResult, Exit};

use super::control::{TIMED_OUT, bounded_wait};
use super::status::with_progress;
use crate::args::fleet::{ReloadArgs, SwitchArgs};
use llama_warden_terminal::output::print_either;
use llama_warden_terminal::{server_text, table};

pub async fn to_profile(global: &GlobalArgs, args: &SwitchArgs) -> CommandResult {
    let wait = bounded_wait(args.patience.wait, args.patience.timeout);
    let mode = if args.dry_run { SwitchMode::DryRun } else { wait.map_or(SwitchMode::Begin, SwitchMode::Wait) };
    let answer = connect::within(args.patience.timeout, async {
        let client = connect::to_daemon(global).await?;
        let (answer, _) = with_progress(global, &client, &[], wait, client.activate(args.name.as_deref(), mode)).await;
        match (answer, &args.name) {
            (Err(ClientError::Problem(problem)), Some(name)) if problem.names_nothing() => {
                let profiles = client.profiles().await.map_err(connect::request_failure)?;
                Err(CommandFailure::unknown_profile(name, profiles.iter().map(|profile| profile.card.name.as_str())))
            }
            (answer, _) => answer.map_err(connect::request_failure),
        }
    })
    .await?;
    let verb = if args.dry_run { "would be" } else { "is" };
    let profile = args.name.as_ref().map_or_else(|| "no profile".to_owned(), |name| format!("profile {name}"));
    report(global, &format!("{profile} {verb} active"), wait, &answer)
}

pub async fn reload(global: &GlobalArgs, args: &ReloadArgs) -> CommandResult {
    let wait = bounded_wait(args.patience.wait, args.patience.timeout);
    let options = ReloadOptions { wait, force: args.force };
    let answer = connect::within(args.patience.timeout, async {
        let client = connect::to_daemon(global).await?;
        Ok(with_progress(global, &client, &[], wait, client.reload(options)).await.0)
    })
    .await?;
    match answer {
        Ok(answer) => report(global, "the configuration is reloaded", wait, &answer),
        Err(ClientError::Problem(problem)) if problem.status == 422 => {
            Err(CommandFailure::usage(format!("nothing is changed: {}", problem.detail))
                .next_step(problem.next_step.as_deref().unwrap_or_default()))
        }
        Err(error) => Err(connect::request_failure(error)),
    }
}

fn report(global: &GlobalArgs, headline: &str, wait: Option<Duration>, answer: &SwitchAnswer) -> CommandResult {
    print_either(global.json, answer, || with_plan(headline, &answer.plan))?;
    if wait.is_none() {
        return Ok(Exit::Done);
    }
    if answer.outcome.is_none() {
        eprintln!("{TIMED_OUT}");
        return Ok(Exit::NotReached);
    }
    let missing = |server: &&ServerReport| server.enabled && !server.is_ready;
    let missing: Vec<_> = answer.status.servers.iter().filter(missing).collect();
    missing.iter().for_each(|server| eprintln!("{}", server_text::server_line(server)));
    Ok(if missing.is_empty() { Exit::Done } else { Exit::NotReached })
}

/// The headline, and the servers of the plan that anything happens to.
fn with_plan(headline: &str, plan: &SwitchPlan) -> String {
    let mut text = headline.to_owned();
    let lists = [("stop", &plan.stop), ("restart", &plan.restart), ("start", &plan.start), ("keep", &plan.keep)];
    for (verb, servers) in lists.into_iter().filter(|(_, servers)| !servers.is_empty()) {
        text.push_str(&table::below(&format!("{verb}: {}", table::names(servers))));
    }
    text
}

#[cfg(test)]
mod tests {
    use llama_warden_events::ServerId;

    use super::*;

    #[test]
    fn a_plan_says_what_is_done_and_nothing_else() {
        let id = |name| ServerId::new(name).expect("valid");
        let plan = SwitchPlan { stop: vec![id("a")], keep: vec![id("b"), id("c")], ..SwitchPlan::default() };
        assert_eq!(with_plan("done", &plan), "done\n  stop: a\n  keep: b, c");
        assert_eq!(with_plan("done", &SwitchPlan::default()), "done");
    }
}
