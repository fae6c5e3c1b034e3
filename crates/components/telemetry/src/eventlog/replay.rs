//! Reading an event log back.

use std::io::{self, BufRead};

use llama_warden_events::{BootId, Envelope, Seq};
use llama_warden_state::Snapshot;

/// Why a log does not replay.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("cannot read the event log")]
    Read(#[from] io::Error),
    /// A line is no envelope.
    #[error("line {line} of the event log is no envelope")]
    Envelope {
        /// Its number, from 1.
        line: usize,
        /// Why not.
        source: serde_json::Error,
    },
    /// Events are missing: the disk did not take them, or the beginning was rotated away.
    #[error("the event log goes from event {after} to event {next}")]
    Hole {
        /// The last event before the hole; 0 before the first.
        after: Seq,
        /// The first event behind it.
        next: Seq,
    },
    /// It holds events of another run of the daemon.
    #[error("line {line} of the event log belongs to run {found} of the daemon, not to {expected}")]
    Boot {
        /// The number of the line, from 1.
        line: usize,
        /// The run of the line.
        found: BootId,
        /// The run of the lines before.
        expected: BootId,
    },
    /// It holds no event.
    #[error("the event log is empty")]
    Empty,
}

/// Folds the events of one run of the daemon into the snapshot that they led to. For a log that was rotated, chain
/// `events.jsonl.1` and `events.jsonl`.
pub fn replay(log: impl BufRead) -> Result<Snapshot, ReplayError> {
    let mut replayed: Option<Snapshot> = None;
    for (index, line) in log.lines().enumerate() {
        let line_number = index + 1;
        let envelope: Envelope =
            serde_json::from_str(&line?).map_err(|source| ReplayError::Envelope { line: line_number, source })?;
        let snapshot = replayed.get_or_insert_with(|| Snapshot::new(envelope.boot));
        if envelope.boot != snapshot.boot {
            let (found, expected) = (envelope.boot, snapshot.boot);
            return Err(ReplayError::Boot { line: line_number, found, expected });
        }
        if envelope.seq != snapshot.seq.next() {
            return Err(ReplayError::Hole { after: snapshot.seq, next: envelope.seq });
        }
        snapshot.apply(&envelope);
    }
    replayed.ok_or(ReplayError::Empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(seq: u64, boot: u64) -> String {
        format!(
            r#"{{"seq":{seq},"boot":"{boot:016x}","at":"2026-11-22T13:05:01.000001Z","elapsed":{seq}.5,"event":{{"type":"DaemonStopping","trigger":"t"}}}}"#
        )
    }

    fn replayed(lines: &[String]) -> Result<Snapshot, ReplayError> {
        replay(lines.join("\n").as_bytes())
    }

    /// The numbers around the first hole.
    fn hole(lines: &[String]) -> Option<(u64, u64)> {
        match replayed(lines) {
            Err(ReplayError::Hole { after, next }) => Some((after.get(), next.get())),
            _ => None,
        }
    }

    #[test]
    fn whole_logs_replay() {
        let snapshot = replayed(&[line(1, 7), line(2, 7)]).expect("replays");
        assert_eq!((snapshot.seq, snapshot.daemon.trigger.as_deref()), (Seq::new(2), Some("t")));
    }

    #[test]
    fn a_log_that_is_not_whole_says_where() {
        assert!(matches!(replayed(&[]), Err(ReplayError::Empty)));
        assert_eq!(hole(&[line(2, 7)]), Some((0, 2)));
        assert_eq!(hole(&[line(1, 7), line(3, 7)]), Some((1, 3)));
        assert!(matches!(replayed(&[line(1, 7), line(2, 8)]), Err(ReplayError::Boot { line: 2, .. })));
        assert!(matches!(replayed(&[line(1, 7), "{".to_owned()]), Err(ReplayError::Envelope { line: 2, .. })));
    }
}
