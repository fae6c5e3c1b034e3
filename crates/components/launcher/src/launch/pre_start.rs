//! The user's command before a launch: asked for, awaited, judged.

use llama_warden_bus::{CommandRequest, CommandSender};
use llama_warden_events::{FailureReason, HookCommand, HookOutcome, HookPoint, Refused};
use tokio::sync::oneshot;

use super::context::LaunchReporter;
use super::failure::LaunchFailure;

/// Has the `pre-start` command of a launch run; `ended` resolves with how it ended.
///
/// Never returns where the command is called off: the launch is to stop, and its owner hears of that.
pub(crate) async fn run(
    commands: &CommandSender,
    reporter: &LaunchReporter,
    ended: oneshot::Receiver<HookOutcome>,
) -> Result<(), LaunchFailure> {
    let (server, incarnation) = (reporter.server.clone(), reporter.incarnation);
    let order = CommandRequest::new(HookCommand::RunPreStart { server, incarnation }).because(reporter.cause);
    commands.send(order).await.map_err(|refused| failure(refused_detail(&refused), Vec::new()))?;
    match ended.await {
        Ok(HookOutcome::Succeeded) => Ok(()),
        Ok(HookOutcome::Failed { detail, lines }) => Err(failure(detail, lines.into())),
        Ok(HookOutcome::CalledOff) | Err(_) => std::future::pending().await,
    }
}

fn failure(detail: String, lines: Vec<String>) -> LaunchFailure {
    let detail = format!("the {} command failed: {detail}", HookPoint::PreStart);
    LaunchFailure { reason: FailureReason::SpawnFailed, detail, lines }
}

fn refused_detail(refused: &Refused) -> String {
    format!("it was not run: {refused}")
}
