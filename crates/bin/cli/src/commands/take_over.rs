//! `up --take-over`: asks the daemon that runs to leave its servers to the next one, and waits until it has.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use llama_warden_api_types::StatusReport;
use llama_warden_builds::option_check;
use llama_warden_client::{Client, ClientError, DaemonAddress, ShutdownMode};
use llama_warden_config::{ConfigProblem, ConfigProblems, Severity};
use llama_warden_daemon::{StateDir, rehearse};
use llama_warden_events::ServerId;
use llama_warden_exit::{CommandFailure, Exit, FailureMessage, next_step_for};
use llama_warden_inventory::Inventory;
use llama_warden_state::PhaseName;
use llama_warden_support::is_disk_full;
use tokio::time::{Instant, sleep};

use crate::args::UpArgs;

/// Pause between two attempts. Neither a server that has started or stopped nor a lock that is free announces itself.
const ATTEMPT_INTERVAL: Duration = Duration::from_millis(5);

/// Time for servers that are just being started or stopped, and then for the end of the daemon.
const PATIENCE: Duration = Duration::from_secs(30);

/// The servers that a daemon has left to the next one.
#[derive(Debug, Default)]
pub struct HandedOver(Vec<LeftServer>);

/// A server as the former daemon knew it.
#[derive(Debug)]
struct LeftServer {
    id: ServerId,
    pid: u32,
    was_ready: bool,
}

impl HandedOver {
    /// Those that have a process, from the status of a daemon of any version.
    fn of(status: &serde_json::Value) -> Self {
        let servers = status["servers"].as_array().into_iter().flatten().filter_map(|server| {
            let pid = u32::try_from(server["pid"].as_u64()?).ok()?;
            let was_ready = server["is_ready"] == true;
            Some(LeftServer { id: ServerId::new(server["model_id"].as_str()?).ok()?, pid, was_ready })
        });
        Self(servers.collect())
    }

    /// Whether the next daemon knows of each what has become of it: one with the same process is as ready as it was. It has ended those
    /// that it does not name.
    pub fn is_known_to(&self, status: &StatusReport) -> bool {
        let is_known = |left: &LeftServer| {
            let now = status.servers.iter().find(|server| server.model_id == left.id);
            now.is_none_or(|now| match now.phase {
                PhaseName::Idle | PhaseName::Launching => false,
                PhaseName::Starting | PhaseName::Loading => now.pid != Some(left.pid) || !left.was_ready,
                _ => true,
            })
        };
        self.0.iter().all(is_known)
    }
}

/// Hands over; nothing is returned where no daemon ran. What can be refused is refused first, while the daemon still runs.
pub async fn run(inventory: &Inventory, args: &UpArgs) -> Result<Option<HandedOver>, CommandFailure> {
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
    let handed_over = loop {
        let asked = async {
            // What is sent to a daemon that does not answer would be obeyed when it does, long after this command has given up.
            daemon.configuration().await?;
            let status = daemon.status_json().await?;
            daemon.shut_down(ShutdownMode::HandOver).await?;
            Ok(HandedOver::of(&status))
        };
        match asked.await {
            Ok(handed_over) => break handed_over,
            Err(ClientError::Unreachable { .. }) => return Ok(None),
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
    };
    loop {
        match StateDir::acquire(&state) {
            Ok(free) => {
                drop(free);
                return Ok(Some(handed_over));
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

#[cfg(test)]
mod tests {
    use llama_warden_api_types::ServerReport;
    use llama_warden_component_kit::{card, server};
    use llama_warden_events::{BootId, Uptime};
    use llama_warden_state::{ServerRecord, Snapshot};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_next_daemon_knows_a_server_once_it_has_its_process_and_readiness_or_says_what_became_of_it() {
        let handed_over = HandedOver::of(&json!({ "servers": [
            { "model_id": "a", "pid": 7, "is_ready": true },
            { "model_id": "down", "pid": null, "is_ready": false },
        ]}));
        let is_known = |phase: PhaseName, pid: Option<u32>| {
            let record = ServerRecord::new(card(&server("a")).into(), Uptime::default());
            let report = ServerReport { phase, pid, ..ServerReport::of(&server("a"), &record, Uptime::default()) };
            let none = StatusReport::of(&Snapshot::new(BootId::from_random(1)), Uptime::default());
            assert!(handed_over.is_known_to(&none), "it is not configured any more");
            handed_over.is_known_to(&StatusReport { servers: vec![report], ..none })
        };
        for (phase, pid, expected) in [
            (PhaseName::Idle, None, false),
            (PhaseName::Launching, None, false),
            (PhaseName::Starting, Some(7), false),
            (PhaseName::Ready, Some(7), true),
            (PhaseName::Loading, Some(8), true),
            (PhaseName::Failed, None, true),
        ] {
            assert_eq!(is_known(phase, pid), expected, "{phase:?} {pid:?}");
        }
    }
}
