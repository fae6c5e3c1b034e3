//! Has the user's `pre-start` command run before a launch.

use llama_warden_bus::{CommandRequest, CommandSender};
use llama_warden_events::{FailureReason, HookCommand, HookOutcome, HookPoint};
use tokio::sync::oneshot;

use super::context::LaunchReporter;
use super::failure::LaunchFailure;

/// Asks for the `pre-start` command of a launch and waits for its end, which the component sends through `ended`.
///
/// Never returns if the command is cancelled: the launch is being stopped then, and the caller waits for that too.
pub(crate) async fn run(
    commands: &CommandSender,
    reporter: &LaunchReporter,
    ended: oneshot::Receiver<HookOutcome>,
) -> Result<(), LaunchFailure> {
    let (server, incarnation) = (reporter.server.clone(), reporter.incarnation);
    let request = CommandRequest::new(HookCommand::RunPreStart { server, incarnation }).because(reporter.cause);
    let refused = commands.send(request).await;
    refused.map_err(|refused| failure(&format!("it was not run: {refused}"), Vec::new()))?;
    match ended.await {
        Ok(HookOutcome::Succeeded) => Ok(()),
        Ok(HookOutcome::Failed { detail, lines }) => Err(failure(&detail, lines.into())),
        Ok(HookOutcome::CalledOff) | Err(_) => std::future::pending().await,
    }
}

fn failure(detail: &str, lines: Vec<String>) -> LaunchFailure {
    let detail = format!("the {} command failed: {detail}", HookPoint::PreStart);
    LaunchFailure { reason: FailureReason::SpawnFailed, detail, lines }
}
