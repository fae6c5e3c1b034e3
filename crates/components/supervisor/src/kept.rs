//! Keeps for the next daemon: counts of failures, and which servers are down although they are configured to run.

use std::hash::{DefaultHasher, Hasher};
use std::path::Path;

use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_events::{LeftFailure, ServerId};
use llama_warden_state_files::{DownFile, DownServer, DownServers, FailureCounts, FailureFile};
use tokio::sync::watch;

use crate::machine::{DaemonEnding, SupervisorMachine};

/// The values that files keep.
#[derive(Debug)]
pub(crate) struct KeptDecisions {
    failures: watch::Sender<FailureCounts>,
    down: watch::Sender<DownServers>,
}

impl KeptDecisions {
    /// Reads what an earlier daemon kept. The future saves every change until the value is dropped.
    pub(crate) async fn load(state_dir: Option<&Path>) -> (Self, impl Future<Output = ()> + use<>) {
        let files = state_dir.map(|state_dir| (FailureFile::new(state_dir), DownFile::new(state_dir)));
        let (failures, down) = match &files {
            Some((failures, down)) => tokio::join!(failures.loaded(), down.loaded()),
            None => Default::default(),
        };
        let ((failures, saved_failures), (down, saved_down)) = (watch::channel(failures), watch::channel(down));
        let saving = async move {
            if let Some((failure_file, down_file)) = files {
                tokio::join!(failure_file.keep(saved_failures), down_file.keep(saved_down));
            }
        };
        (Self { failures, down }, saving)
    }

    /// Consecutive failures of a server.
    pub(crate) fn failures(&self, server: &ServerId) -> u32 {
        self.failures.borrow().get(server).copied().unwrap_or_default()
    }

    /// The servers that an earlier daemon left down and that stay so, each with its failure. One that failed with another configuration,
    /// or under another version of this program, may start.
    pub(crate) fn down(&self, fleet: &Fleet) -> Vec<(ServerId, Option<LeftFailure>)> {
        let kept = self.down.borrow();
        let left = kept.servers.iter().filter_map(|(server, down)| {
            let spec = fleet.get(server.as_str()).filter(|spec| spec.enabled)?;
            match down {
                DownServer::Stopped => Some((server.clone(), None)),
                DownServer::Failed { configured, failure } => {
                    (*configured == fingerprint(spec)).then(|| (server.clone(), Some(failure.clone())))
                }
            }
        });
        left.collect()
    }

    /// Keeps what the machine has decided.
    pub(crate) fn update(&self, machine: &SupervisorMachine, fleet: &watch::Sender<Fleet>) {
        replace(&self.failures, machine.failures());
        replace(&self.down, down_servers(machine, fleet));
    }
}

fn replace<T: PartialEq>(kept: &watch::Sender<T>, latest: T) {
    kept.send_if_modified(|kept| {
        let is_changed = *kept != latest;
        *kept = latest;
        is_changed
    });
}

fn down_servers(machine: &SupervisorMachine, fleet: &watch::Sender<Fleet>) -> DownServers {
    let ending = machine.ending();
    if ending == Some(DaemonEnding::Stop) {
        return DownServers::default();
    }
    let stopped = machine.stopped_by_user().map(|server| (server.clone(), DownServer::Stopped));
    let failed = machine.left_failures().filter_map(|(server, failure)| {
        let configured = fingerprint(fleet.borrow().get(server.as_str())?);
        Some((server.clone(), DownServer::Failed { configured, failure }))
    });
    // A person's stop is the later decision.
    DownServers { servers: failed.chain(stopped).collect(), is_handed_over: ending == Some(DaemonEnding::HandOver) }
}

/// Stands for a configuration as this version of the program understands it.
fn fingerprint(spec: &ServerSpec) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(env!("CARGO_PKG_VERSION").as_bytes());
    hasher.write(format!("{spec:?}").as_bytes());
    format!("{:016x}", hasher.finish())
}
