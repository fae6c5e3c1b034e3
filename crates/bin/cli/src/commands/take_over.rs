//! `up --take-over`: asks the daemon that runs to leave its servers to the next one, and waits until it has.

use std::time::Duration;

use llama_warden_client::{Client, ClientError, DaemonAddress, ShutdownMode};
use llama_warden_daemon::{CommandFailure, Exit, LoadedConfig, StateDir};
use tokio::time::{Instant, sleep};

use crate::args::UpArgs;

/// Pause between two attempts. Neither a server that has started or stopped nor a lock that is free announces itself.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(5);

/// Time for servers that are just being started or stopped, and then for the end of the daemon.
const PATIENCE: Duration = Duration::from_secs(30);

/// Hands over. Where no daemon runs, there is nothing to do. What can be refused about the configuration is refused first, while the
/// daemon still runs.
pub async fn run(loaded: &LoadedConfig, args: &UpArgs) -> Result<(), CommandFailure> {
    let fleet = loaded.fleet(args.profile.as_deref())?;
    if let Some(unknown) = args.servers.iter().find(|server| fleet.get(server.as_str()).is_none()) {
        return Err(CommandFailure::unknown_server(unknown.as_str(), fleet.iter().map(|spec| spec.id.as_str())));
    }
    let (state, control) = (loaded.state_dir()?, loaded.control_socket()?);
    let daemon = Client::new(DaemonAddress::Unix(control), None);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match daemon.shut_down(ShutdownMode::HandOver).await {
            Ok(_) => break,
            Err(ClientError::Unreachable { .. }) => return Ok(()),
            Err(ClientError::Problem(problem)) if problem.status == 409 && Instant::now() < deadline => {
                sleep(ATTEMPT_INTERVAL * 20).await;
            }
            Err(error) => {
                return Err(CommandFailure::failed(format!("the daemon does not hand over: {error}"))
                    .next_step("it goes on; `llama-warden down` and `up` restart it with its servers"));
            }
        }
    }
    loop {
        match StateDir::acquire(&state) {
            Ok(free) => {
                drop(free);
                return Ok(());
            }
            Err(failure) if failure.exit == Exit::Held && Instant::now() < deadline => sleep(ATTEMPT_INTERVAL).await,
            Err(failure) => return Err(failure),
        }
    }
}
