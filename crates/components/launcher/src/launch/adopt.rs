//! Takes over the process of an earlier daemon, if it still is what would be launched now.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hasher;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;

use llama_warden_events::{Event, FailureReason, Incarnation, ServerId, Signal};
use llama_warden_processes::adoption::{HeldProgram, MissedOutput, held_programs};
use llama_warden_processes::launch_tag::LaunchTag;
use llama_warden_procfs::ProcessStat;
use llama_warden_support::{fail_point, lock};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::context::{Launch, NotStarted};
use super::prepare::PreparedLaunch;
use super::running::{OutputPipes, kill};
use super::task::SpawnedServer;

/// The folder of the state directory with the sockets of shims.
const FOLDER: &str = "shims";

/// What a daemon tells the next one about a launch: one line of JSON, and [`READY`] behind it once the server is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LaunchNote {
    /// The value of the launch tag that its processes carry.
    tag: String,
    server: ServerId,
    incarnation: Incarnation,
    /// Of its command line and its configured variables, in hexadecimal.
    fingerprint: String,
    /// Restarts by policy so far.
    #[serde(default)]
    restarts: BTreeMap<FailureReason, u64>,
}

/// The second line of a note.
pub(crate) const READY: &[u8] = b"ready\n";

/// A process that waits for its launch.
#[derive(Debug)]
pub(crate) struct HeldLaunch {
    program: HeldProgram,
    note: LaunchNote,
    was_ready: bool,
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

impl Launch {
    /// The folder where shims wait for the next daemon.
    pub(crate) fn shims(state_dir: &Path) -> std::path::PathBuf {
        state_dir.join(FOLDER)
    }

    /// What the next daemon is told about this launch.
    pub(crate) fn note(&self, prepared: &PreparedLaunch) -> String {
        let snapshot = self.resources.bus.snapshot();
        let counters = snapshot.servers.get(&self.reporter.server).map(|record| &record.counters.restarts);
        let restarts = counters.into_iter().flat_map(|tally| tally.keys().map(|reason| (reason, tally.of(reason))));
        let note = LaunchNote {
            tag: self.tag().value().to_owned(),
            server: self.reporter.server.clone(),
            incarnation: self.reporter.incarnation,
            fingerprint: self.fingerprint(prepared),
            restarts: restarts.collect(),
        };
        // It has only texts and numbers, which can all be written.
        serde_json::to_string(&note).unwrap_or_default() + "\n"
    }

    /// Of what a person decides about a process: its command line and its configured variables. What it inherits differs between a
    /// terminal and a service manager, and is left out.
    fn fingerprint(&self, prepared: &PreparedLaunch) -> String {
        let line = &prepared.line;
        let words = std::iter::once(line.program.as_os_str()).chain(line.arguments.iter().map(|word| word.as_os_str()));
        let variables = self.server.env.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        let mut hasher = Fnv::default();
        for word in words.map(|word| word.as_bytes()).chain(variables) {
            hasher.write(word);
            hasher.write(&[0]);
        }
        format!("{:016x}", hasher.finish())
    }

    /// Takes a process over; `None` if it is not what would be launched now, or has ended. It is gone then.
    pub(crate) async fn adopt(&mut self, held: HeldLaunch) -> Result<Option<SpawnedServer>, NotStarted> {
        let grace = self.server.stop.grace;
        let server = self.reporter.server.clone();
        let prepared = match self.prepare(true).await {
            Ok(prepared) => prepared,
            Err(failed) => {
                tracing::warn!(%server, "the process of the earlier daemon is ended: it could not be launched like this any more");
                held.end(grace).await;
                return Err(failed);
            }
        };
        fail_point("adopt-prepared");
        if held.note.fingerprint != self.fingerprint(&prepared) {
            tracing::warn!(%server, "the configuration has changed since the earlier daemon; the server is restarted");
            held.end(grace).await;
            return Ok(None);
        }
        let HeldLaunch { program, note, was_ready } = held;
        let HeldProgram { process, stdout, stderr, output, .. } = program;
        process.outlive(self.resources.outlive);
        fail_point("adopt-outlive-told");
        let age_seconds = ProcessStat::of(process.pid()).and_then(|stat| stat.age_seconds()).unwrap_or(0.0);
        self.adopted_tag = Some(Box::new(LaunchTag::from_value(&note.tag)));
        let adopted = Event::ServerAdopted { age_seconds, was_ready, restarts: note.restarts };
        self.reporter.publish_acked(adopted).await?;
        fail_point("adopt-published");
        let lost: u64 = output.iter().map(|missed| missed.lost).sum();
        if lost > 0 {
            tracing::warn!(%server, bytes = lost, "output was lost while no daemon was there");
        }
        let argv = prepared.line.redacted().into();
        let (pid, start_ticks) = (process.pid(), process.start_ticks());
        let event = Event::ServerSpawned { pid, start_ticks, argv, port: self.server.port };
        self.reporter.publish_acked(event).await?;
        fail_point("adopt-spawn-published");
        let missed = output.map(|MissedOutput { bytes, .. }| bytes);
        let output = OutputPipes { stdout, stderr, redactor: prepared.redactor, missed };
        Ok(Some(SpawnedServer { process, output, oom_kills: self.oom_kills() }))
    }
}

/// The hash FNV-1a: the same in every build, as the next daemon may be another one. It need not withstand an attacker, who could as well
/// write the configuration.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}
