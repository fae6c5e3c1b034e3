//! `up --take-over`: asks the daemon that runs to leave its servers to the next one, and waits until it has.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use llama_warden_builds::option_check;
use llama_warden_client::{Client, ClientError, DaemonAddress, ShutdownMode};
use llama_warden_config::{ConfigProblem, ConfigProblems, Severity};
use llama_warden_daemon::{StateDir, rehearse};
use llama_warden_exit::{CommandFailure, Exit, FailureMessage, next_step_for};
use llama_warden_inventory::Inventory;
use llama_warden_support::is_disk_full;
use tokio::time::{Instant, sleep};

use crate::args::UpArgs;

/// Pause between two attempts. Neither a server that has started or stopped nor a lock that is free announces itself.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(5);

/// Time for servers that are just being started or stopped, and then for the end of the daemon.
const PATIENCE: Duration = Duration::from_secs(30);

/// Hands over, and returns whether a daemon ran that did. What can be refused is refused first, while the daemon still runs.
pub async fn run(inventory: &Inventory, args: &UpArgs) -> Result<bool, CommandFailure> {
    let loaded = &inventory.loaded;
    let fleet = loaded.fleet(args.profile.as_deref())?;
    if let Some(unknown) = args.servers.iter().find(|server| fleet.get(server.as_str()).is_none()) {
        return Err(CommandFailure::unknown_server(unknown.as_str(), fleet.iter().map(|spec| spec.id.as_str())));
    }
    let (state, control) = (loaded.state_dir()?, loaded.control_socket()?);
    rehearse(&loaded.configuration, &state)?;
    // A socket for each server, and the control socket.
    require_room(&state, fleet.iter().len() + 1)?;
    let daemon = Client::new(DaemonAddress::Unix(control.clone()), None);
    if daemon.reach().await.is_ok() {
        // A server whose options its build refuses would be ended for its new options, and not start with them.
        refuse(option_check::examine(inventory).await?.problems)?;
    }
    let deadline = Instant::now() + PATIENCE;
    let mut has_asked = false;
    loop {
        let asked = async {
            // What is sent to a daemon that does not answer would be obeyed when it does, long after this command has given up.
            daemon.configuration().await?;
            daemon.shut_down(ShutdownMode::HandOver).await
        };
        match asked.await {
            Ok(_) => break,
            Err(ClientError::Unreachable { .. }) => return Ok(false),
            Err(ClientError::Problem(problem)) if problem.status == 409 && Instant::now() < deadline => {
                sleep(ATTEMPT_INTERVAL * 20).await;
            }
            // A daemon that was killed in this moment does not answer any more.
            Err(ClientError::Protocol { .. }) if !std::mem::replace(&mut has_asked, true) => {
                sleep(ATTEMPT_INTERVAL * 20).await;
            }
            Err(error) => {
                let next = match &error {
                    // It may be no daemon at all.
                    ClientError::Protocol { .. } => format!(
                        "nothing was changed; if a daemon runs, `llama-warden down` and `up` restart it with its servers, else remove {}",
                        control.display()
                    ),
                    _ => "it goes on; `llama-warden down` and `up` restart it with its servers".to_owned(),
                };
                return Err(CommandFailure::failed(format!("the daemon does not hand over: {error}")).next_step(next));
            }
        }
    }
    loop {
        match StateDir::acquire(&state) {
            Ok(free) => {
                drop(free);
                return Ok(true);
            }
            Err(failure) if failure.exit == Exit::Held && Instant::now() < deadline => sleep(ATTEMPT_INTERVAL).await,
            Err(failure) => return Err(failure),
        }
    }
}

/// Fails with the problems that are errors, as `check` tells them.
fn refuse(mut problems: Vec<ConfigProblem>) -> Result<(), CommandFailure> {
    problems.retain(|problem| problem.severity == Severity::Error);
    if problems.is_empty() { Ok(()) } else { Err(ConfigProblems(problems).into()) }
}

/// Fails where the state directory has no room for so many names. Without its socket, a server ends with the daemon that leaves it.
fn require_room(state: &Path, names: usize) -> Result<(), CommandFailure> {
    let folder = state.join("rehearsal");
    // One that a killed command has left.
    let _ = fs::remove_dir_all(&folder);
    let made = fs::create_dir(&folder);
    let made =
        made.and_then(|()| (1..names).try_for_each(|name| File::create(folder.join(name.to_string())).map(drop)));
    let _ = fs::remove_dir_all(&folder);
    match made {
        // Whatever else is wrong is the running daemon's to say.
        Err(error) if is_disk_full(&error) => {
            let problem = format!("the state directory {} has no room for a hand-over: {error}", state.display());
            let step = next_step_for(&error).unwrap_or("free some of it");
            Err(CommandFailure::failed(format!("{problem}; the daemon goes on")).next_step(step))
        }
        _ => Ok(()),
    }
}

/// Adds to the failure of the new daemon what has become of the servers.
pub fn without_daemon(mut failure: CommandFailure) -> CommandFailure {
    if let FailureMessage::Text { message, .. } = &mut failure.message {
        message.push_str("; the servers run on without a daemon, and the next `llama-warden up` takes them over");
    }
    failure
}
