//! Records the output of a server, with the time of each line.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use llama_warden_bus::{OutputKey, OutputTap, TapFactory};
use llama_warden_events::{Incarnation, StreamName};
use llama_warden_support::lock;
use tokio::time::Instant;

/// Most lines that are kept of one start. A server that prints more before it is ready repeats itself.
const MOST_LINES: usize = 20_000;

/// A line of output and its arrival.
#[derive(Debug, Clone)]
pub struct TimedLine {
    /// When it arrived.
    pub at: Instant,
    /// Where the server wrote it.
    pub stream: StreamName,
    /// The line, without its end.
    pub line: Vec<u8>,
}

/// Records the lines of every start. Clones share one record.
#[derive(Debug, Clone, Default)]
pub struct OutputRecorder(Arc<Mutex<BTreeMap<Incarnation, Vec<TimedLine>>>>);

impl OutputRecorder {
    /// The lines of a start until now.
    pub fn lines(&self, incarnation: Incarnation) -> Vec<TimedLine> {
        lock(&self.0).get(&incarnation).cloned().unwrap_or_default()
    }
}

impl TapFactory for OutputRecorder {
    fn tap(&self, key: &OutputKey) -> Option<Box<dyn OutputTap>> {
        Some(Box::new(RecordingTap { recorder: self.clone(), incarnation: key.incarnation, stream: key.stream }))
    }
}

struct RecordingTap {
    recorder: OutputRecorder,
    incarnation: Incarnation,
    stream: StreamName,
}

impl OutputTap for RecordingTap {
    fn on_line(&mut self, line: &[u8]) {
        let mut starts = lock(&self.recorder.0);
        let lines = starts.entry(self.incarnation).or_default();
        if lines.len() < MOST_LINES {
            lines.push(TimedLine { at: Instant::now(), stream: self.stream, line: line.to_vec() });
        }
    }
}
