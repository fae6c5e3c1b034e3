//! Takes over the process of an earlier daemon, if it still is what would be launched now.

use std::hash::Hasher;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use llama_warden_events::Event;
use llama_warden_processes::adoption::{HeldProgram, MissedOutput};
use llama_warden_processes::launch_tag::LaunchTag;
use llama_warden_procfs::ProcessStat;
use llama_warden_support::fail_point;

use super::context::{Launch, NotStarted};
use super::held::{FOLDER, HeldLaunch, LaunchNote};
use super::prepare::PreparedLaunch;
use super::running::{OutputPipes, SpawnedServer};
use super::totals::STREAMS;

impl Launch {
    /// The folder where shims wait for the next daemon.
    pub(crate) fn shims(state_dir: &Path) -> std::path::PathBuf {
        state_dir.join(FOLDER)
    }

    /// The note about this launch that the next daemon reads.
    pub(crate) fn note(&self, prepared: &PreparedLaunch) -> String {
        let note = LaunchNote {
            tag: self.tag().value().to_owned(),
            server: self.reporter.server.clone(),
            incarnation: self.reporter.incarnation,
            fingerprint: self.fingerprint(prepared),
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
                self.free_slots();
                return Err(failed);
            }
        };
        fail_point("adopt-prepared");
        if held.note.fingerprint != self.fingerprint(&prepared) {
            tracing::warn!(%server, "the configuration has changed since the earlier daemon; the server is restarted");
            held.end(grace).await;
            self.free_slots();
            return Ok(None);
        }
        let HeldLaunch { program, note, was_ready } = held;
        let HeldProgram { process, stdout, stderr, output, .. } = program;
        process.outlive(self.resources.outlive);
        fail_point("adopt-outlive-told");
        let age_seconds = ProcessStat::of(process.pid()).and_then(|stat| stat.age_seconds()).unwrap_or(0.0);
        self.adopted_tag = Some(Box::new(LaunchTag::from_value(&note.tag)));
        let adopted = Event::ServerAdopted { age_seconds, was_ready };
        self.reporter.publish_acked(adopted).await?;
        fail_point("adopt-published");
        let lost: u64 = output.iter().map(|missed| missed.lost).sum();
        if lost > 0 {
            tracing::warn!(%server, bytes = lost, "output was lost while no daemon was there");
            for (stream, missed) in STREAMS.into_iter().zip(&output) {
                self.resources.lane.count_lost(&server, stream, missed.lost_lines);
            }
            // Also the line that says that one is free, perhaps.
            self.free_slots();
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

    fn free_slots(&self) {
        self.resources.lane.requests().free_slots(&self.reporter.server, self.reporter.incarnation);
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
