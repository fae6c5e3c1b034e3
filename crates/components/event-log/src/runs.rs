//! Reads the events of one run out of the log, which holds those of several.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use llama_warden_events::{BootId, Envelope};
use llama_warden_support::open_regular;

use crate::file::LONGEST_LINE;

/// Why the events of a run cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// The file cannot be read.
    #[error("cannot read the event log {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// The log does not go back that far.
    #[error("the event log has {}, and none that is {back} before the latest", runs(*kept))]
    NoSuchRun {
        /// The number of runs in it.
        kept: usize,
        /// How far back the run is.
        back: usize,
    },
}

fn runs(count: usize) -> String {
    match count {
        0 => "no run".to_owned(),
        1 => "one run".to_owned(),
        count => format!("{count} runs"),
    }
}

/// The events of one run, oldest first. The earliest of a log that was rotated may be missing.
#[derive(Debug)]
pub struct KeptRun {
    boot: BootId,
    log: Envelopes,
}

/// The run that is `back` before the latest one in the log of a state directory; 0 is the latest itself.
///
/// # Errors
/// If the log cannot be read, or does not have that run.
pub fn kept_run(state_dir: &Path, back: usize) -> Result<KeptRun, RunsError> {
    let mut boots: Vec<BootId> = Vec::new();
    for envelope in Envelopes::open(state_dir)? {
        if boots.last() != Some(&envelope.boot) {
            boots.push(envelope.boot);
        }
    }
    match boots.iter().rev().nth(back) {
        Some(boot) => Ok(KeptRun { boot: *boot, log: Envelopes::open(state_dir)? }),
        None => Err(RunsError::NoSuchRun { kept: boots.len(), back }),
    }
}

impl Iterator for KeptRun {
    type Item = Envelope;

    fn next(&mut self) -> Option<Envelope> {
        self.log.by_ref().find(|envelope| envelope.boot == self.boot)
    }
}

/// Every envelope of the log. What a crash or a hand left between them is skipped.
#[derive(Debug)]
struct Envelopes {
    /// The files that are not read to their end, the current one first.
    files: Vec<BufReader<File>>,
    line: Vec<u8>,
}

impl Envelopes {
    fn open(state_dir: &Path) -> Result<Self, RunsError> {
        let mut files = Vec::new();
        for name in ["events.jsonl", "events.jsonl.1"] {
            let path = state_dir.join(name);
            match open_regular(&path, OpenOptions::new().read(true)) {
                Ok(file) => files.push(BufReader::new(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !files.is_empty() => {}
                Err(source) => return Err(RunsError::Read { path, source }),
            }
        }
        Ok(Self { files, line: Vec::new() })
    }
}

impl Iterator for Envelopes {
    type Item = Envelope;

    fn next(&mut self) -> Option<Envelope> {
        while let Some(file) = self.files.last_mut() {
            self.line.clear();
            // An error in the middle of a file ends it: what comes behind cannot be read either.
            let count = file.take(LONGEST_LINE).read_until(b'\n', &mut self.line).unwrap_or(0) as u64;
            let is_cut = count == LONGEST_LINE && self.line.last() != Some(&b'\n');
            if count == 0 || is_cut && file.skip_until(b'\n').unwrap_or(0) == 0 {
                self.files.pop();
            } else if let Ok(envelope) = serde_json::from_slice(&self.line) {
                return Some(envelope);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(boot: u64, seq: u64) -> String {
        format!(
            r#"{{"seq":{seq},"boot":"{boot:016x}","at":"2026-11-22T13:05:01Z","elapsed":0.5,"event":{{"type":"DaemonStopping","trigger":"t"}}}}"#
        )
    }

    fn seqs(state_dir: &Path, back: usize) -> Vec<u64> {
        kept_run(state_dir, back).expect("is kept").map(|envelope| envelope.seq.get()).collect()
    }

    #[test]
    fn an_earlier_run_is_read_from_both_files_whatever_lies_between_the_lines() {
        let state = tempfile::tempdir().expect("is made");
        fs::write(state.path().join("events.jsonl.1"), [line(1, 9), line(2, 1)].join("\n") + "\n").expect("writes");
        let current = [line(2, 2), "\0\0".to_owned(), line(2, 3), line(3, 1)].join("\n") + "\n{\"half";
        fs::write(state.path().join("events.jsonl"), current).expect("writes");
        assert_eq!(seqs(state.path(), 0), [1]);
        assert_eq!(seqs(state.path(), 1), [1, 2, 3]);
        assert_eq!(seqs(state.path(), 2), [9]);
        let missing = kept_run(state.path(), 3).expect_err("has three");
        assert_eq!(missing.to_string(), "the event log has 3 runs, and none that is 3 before the latest");
    }

    #[test]
    fn a_line_that_is_no_event_is_passed_over_whatever_its_length() {
        let state = tempfile::tempdir().expect("is made");
        let file = File::create(state.path().join("events.jsonl")).expect("is made");
        // Without blocks on the disk: longer than what a test may hold in memory.
        file.set_len(1 << 30).expect("is made");
        let lines = ["\n".to_owned(), line(1, 1), "\n".to_owned(), line(1, 2) + "\n"].concat();
        std::os::unix::fs::FileExt::write_all_at(&file, lines.as_bytes(), 1 << 30).expect("writes");
        assert_eq!(seqs(state.path(), 0), [1, 2]);
    }

    #[test]
    fn a_log_that_is_not_there_is_named() {
        let state = tempfile::tempdir().expect("is made");
        let error = kept_run(state.path(), 0).expect_err("is missing").to_string();
        assert!(error.ends_with("events.jsonl"), "{error}");
    }
}
