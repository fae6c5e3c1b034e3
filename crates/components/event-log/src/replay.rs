//! Reading an event log back.

use std::io::{self, BufRead};

use llama_warden_events::{Envelope, Seq};
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
    /// It holds no event.
    #[error("the event log is empty")]
    Empty,
}

/// Folds the events of the last run in a log into the snapshot that they led to. For a log that was rotated, chain
/// `events.jsonl.1` and `events.jsonl`.
pub fn replay(log: impl BufRead) -> Result<Snapshot, ReplayError> {
    let mut replayed: Option<Snapshot> = None;
    for (index, line) in log.lines().enumerate() {
        let line_number = index + 1;
        let envelope: Envelope =
            serde_json::from_str(&line?).map_err(|source| ReplayError::Envelope { line: line_number, source })?;
        let snapshot = match &mut replayed {
            Some(snapshot) if snapshot.boot == envelope.boot => snapshot,
            // The first run, or the next one: what an earlier run did says nothing about the state of this one.
            _ => replayed.insert(Snapshot::new(envelope.boot)),
        };
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
    fn of_several_runs_the_last_one_is_replayed() {
        let snapshot = replayed(&[line(1, 7), line(2, 7), line(1, 8)]).expect("replays");
        assert_eq!((snapshot.seq, snapshot.boot), (Seq::new(1), llama_warden_events::BootId::from_random(8)));
    }

    #[test]
    fn a_log_that_is_not_whole_says_where() {
        assert!(matches!(replayed(&[]), Err(ReplayError::Empty)));
        assert_eq!(hole(&[line(2, 7)]), Some((0, 2)));
        assert_eq!(hole(&[line(1, 7), line(3, 7)]), Some((1, 3)));
        assert_eq!(hole(&[line(1, 7), line(2, 8)]), Some((0, 2)), "of the second run");
        assert!(matches!(replayed(&[line(1, 7), "{".to_owned()]), Err(ReplayError::Envelope { line: 2, .. })));
    }
}
