//! The processes that an earlier daemon has left, and its notes about their launches.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;

use llama_warden_events::{Incarnation, ServerId, Signal};
use llama_warden_processes::adoption::{HeldProgram, held_programs};
use llama_warden_processes::launch_tag::LaunchTag;
use llama_warden_state_files::TotalsByServer;
use llama_warden_support::lock;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::{kill, totals};

/// The folder of the state directory with the sockets of shims.
pub(crate) const FOLDER: &str = "shims";

/// The note of a daemon about a launch, for the next one: one line of JSON, and [`READY`] behind it once the server is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LaunchNote {
    /// The value of the launch tag that its processes carry.
    pub(crate) tag: String,
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    /// Of its command line and its configured variables, in hexadecimal.
    pub(crate) fingerprint: String,
}

/// The second line of a note.
pub(crate) const READY: &[u8] = b"ready\n";

/// A process that waits for its launch.
#[derive(Debug)]
pub(crate) struct HeldLaunch {
    pub(crate) program: HeldProgram,
    pub(crate) note: LaunchNote,
    pub(crate) was_ready: bool,
}

/// The processes of an earlier daemon, until their launches take them.
#[derive(Debug, Default)]
pub(crate) struct HeldLaunches(Mutex<HashMap<ServerId, HeldLaunch>>);

impl HeldLaunches {
    /// Takes every process over that waits in a state directory. One whose note cannot be read is killed, since nobody would know it.
    pub(crate) async fn find(state_dir: &Path) -> Self {
        let mut held = HashMap::new();
        for program in held_programs(&state_dir.join(FOLDER)).await {
            let pid = program.process.pid();
            let mut lines = program.note.split(|byte| *byte == b'\n');
            let note = lines.next().map(serde_json::from_slice::<LaunchNote>);
            let was_ready = lines.next() == READY.strip_suffix(b"\n");
            match note {
                Some(Ok(note)) => {
                    let server = note.server.clone();
                    if let Some(HeldLaunch { note, .. }) =
                        held.insert(server.clone(), HeldLaunch { program, note, was_ready })
                    {
                        tracing::warn!(%server, tag = note.tag, "two processes were left for one server; one is killed");
                    }
                }
                _ => tracing::warn!(pid, "a process was left that nobody can tell the server of; it is killed"),
            }
        }
        Self(Mutex::new(held))
    }

    /// The tags and the latest launch of each server that has a process.
    pub(crate) fn launches(&self) -> Vec<(ServerId, Incarnation, LaunchTag)> {
        let tag = |held: &HeldLaunch| LaunchTag::from_value(&held.note.tag);
        lock(&self.0).iter().map(|(server, held)| (server.clone(), held.note.incarnation, tag(held))).collect()
    }

    /// The latest launch of each server that has a process.
    pub(crate) fn numbers(&self) -> Vec<(ServerId, Incarnation)> {
        lock(&self.0).iter().map(|(server, held)| (server.clone(), held.note.incarnation)).collect()
    }

    /// What was counted of each server that has a process.
    pub(crate) fn totals(&self) -> TotalsByServer {
        let read = |held: &HeldLaunch| totals::read(held.program.process.page()?);
        lock(&self.0).iter().filter_map(|(server, held)| Some((server.clone(), read(held)?))).collect()
    }

    /// The process of a server.
    pub(crate) fn take(&self, server: &ServerId) -> Option<HeldLaunch> {
        lock(&self.0).remove(server)
    }

    /// Takes all whose server is not configured any more.
    pub(crate) fn take_unknown(&self, is_known: impl Fn(&ServerId) -> bool) -> Vec<HeldLaunch> {
        lock(&self.0).extract_if(|server, _| !is_known(server)).map(|(_, held)| held).collect()
    }
}

impl HeldLaunch {
    /// Ends a process that is not wanted any more: TERM, the grace, KILL.
    pub(crate) async fn end(mut self, grace: std::time::Duration) {
        let process = &mut self.program.process;
        // An error means that it has ended.
        let _ = process.deliver(Signal::TERM);
        if timeout(grace, process.exited()).await.is_err() {
            kill(process);
            process.exited().await;
        }
    }

    pub(crate) fn server(&self) -> &ServerId {
        &self.note.server
    }
}
