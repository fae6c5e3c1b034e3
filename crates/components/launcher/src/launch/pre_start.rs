//! Has the user's `pre-start` command run before a launch.

use llama_warden_bus::CommandRequest;
use llama_warden_events::{FailureReason, HookCommand, HookOutcome, HookPoint};
use tokio::sync::oneshot;

use super::context::Launch;
use super::failure::LaunchFailure;

impl Launch {
    /// Asks for the `pre-start` command and waits for its end, which the component sends through `ended`.
    ///
    /// Never returns if the command is cancelled: the launch is being stopped then, and the caller waits for that too.
    pub(crate) async fn run_pre_start(&self, ended: oneshot::Receiver<HookOutcome>) -> Result<(), LaunchFailure> {
        let (server, incarnation) = (self.reporter.server.clone(), self.reporter.incarnation);
        let command = HookCommand::RunPreStart { server, incarnation };
        let refused = self.resources.commands.send(CommandRequest::new(command).because(self.reporter.cause)).await;
        refused.map_err(|refused| failure(&format!("it was not run: {refused}"), Vec::new()))?;
        match ended.await {
            Ok(HookOutcome::Succeeded) => Ok(()),
            Ok(HookOutcome::Failed { detail, lines }) => Err(failure(&detail, lines.into())),
            Ok(HookOutcome::CalledOff) | Err(_) => std::future::pending().await,
        }
    }
}

fn failure(detail: &str, lines: Vec<String>) -> LaunchFailure {
    let detail = format!("the {} command failed: {detail}", HookPoint::PreStart);
    LaunchFailure { reason: FailureReason::SpawnFailed, detail, lines }
}
