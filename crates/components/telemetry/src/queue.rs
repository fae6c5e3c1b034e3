//! Queues log lines for a sink that may be slow, full or gone.
//!
//! Invariants: [`LineQueue::push`] never waits for the sink; each line is written once, is in the queue, or is counted
//! as lost. One thread does all the writing, so only it is stuck when the sink is.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use llama_warden_support::lock;

/// Takes lines from any thread. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LineQueue {
    shared: Arc<QueueShared>,
}

#[derive(Debug, Default)]
struct QueueShared {
    state: Mutex<QueueState>,
    filled: Condvar,
    drained: Condvar,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct QueueState {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Whether the thread holds lines that are not written yet.
    writing: bool,
    closed: bool,
}

impl LineQueue {
    /// Bytes that wait for the sink; as many again may be with the thread. When it is full, new lines are lost.
    const CAPACITY: usize = 1 << 20;

    /// Starts the thread. `report` gets the number of lines lost so far, once lines go through again.
    pub(crate) fn start(sink: impl Write + Send + 'static, report: impl Fn(u64) + Send + 'static) -> io::Result<Self> {
        let shared = Arc::<QueueShared>::default();
        let queue = Self { shared: shared.clone() };
        thread::Builder::new().name("log-writer".to_owned()).spawn(move || write_lines(&shared, sink, report))?;
        Ok(queue)
    }

    /// Takes one line with its line end.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut state = lock(&self.shared.state);
        if state.closed || state.bytes + line.len() > Self::CAPACITY {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_vec());
        drop(state);
        self.shared.filled.notify_one();
    }

    /// How many lines were lost so far.
    #[cfg(test)]
    fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Takes no more lines, and waits for those that it has, at most for `patience`.
    pub(crate) fn close(&self, patience: Duration) {
        let mut state = lock(&self.shared.state);
        state.closed = true;
        self.shared.filled.notify_one();
        let pending = |state: &mut QueueState| state.writing || !state.lines.is_empty();
        // After `patience` the sink is stuck. Drop the rest: the daemon must end.
        drop(self.shared.drained.wait_timeout_while(state, patience, pending));
    }
}

impl QueueShared {
    /// The lines that wait; none once the queue is closed and empty.
    fn take(&self) -> Option<VecDeque<Vec<u8>>> {
        let mut state = lock(&self.state);
        state.writing = false;
        self.drained.notify_all();
        let idle = |state: &mut QueueState| state.lines.is_empty() && !state.closed;
        let mut state = self.filled.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        if state.lines.is_empty() {
            return None;
        }
        state.bytes = 0;
        state.writing = true;
        Some(std::mem::take(&mut state.lines))
    }
}

fn write_lines(shared: &QueueShared, mut sink: impl Write, report: impl Fn(u64)) {
    let mut reported = 0;
    while let Some(lines) = shared.take() {
        for line in lines {
            if sink.write_all(&line).and_then(|()| sink.flush()).is_err() {
                shared.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let lost = shared.lost.load(Ordering::Relaxed);
            if lost > reported {
                // The report is itself a line and may be lost, so the count is updated first.
                reported = lost;
                report(lost);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A sink that hands over what it gets, and obeys.
    struct Sink {
        written: mpsc::Sender<Vec<u8>>,
        /// One permit per write; closed means that every write fails.
        permits: mpsc::Receiver<()>,
    }

    impl Write for Sink {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.permits.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            self.written.send(line.to_vec()).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    fn queue() -> (LineQueue, mpsc::Sender<()>, mpsc::Receiver<Vec<u8>>, mpsc::Receiver<u64>) {
        let (written, read) = mpsc::channel();
        let (permit, permits) = mpsc::channel();
        let (report, reports) = mpsc::channel();
        let queue = LineQueue::start(Sink { written, permits }, move |lost| {
            let _ = report.send(lost);
        });
        (queue.expect("starts"), permit, read, reports)
    }

    #[test]
    fn lines_come_out_whole_and_in_order() {
        let (queue, permit, read, _) = queue();
        for line in [b"one\n", b"two\n"] {
            queue.push(line);
            permit.send(()).expect("alive");
        }
        queue.close(PATIENCE);
        assert_eq!(read.try_iter().collect::<Vec<_>>(), [b"one\n", b"two\n"]);
        assert_eq!(queue.lost(), 0);
    }

    /// Fault S15.
    #[test]
    fn a_blocked_sink_loses_counted_lines_and_blocks_nobody() {
        let (queue, permit, read, reports) = queue();
        let line = vec![b'x'; 1024];
        let pushed = 3 * LineQueue::CAPACITY / line.len();
        for _ in 0..pushed {
            queue.push(&line);
        }
        let lost = queue.lost() as usize;
        assert!((pushed / 3..pushed).contains(&lost), "{lost} of {pushed} lines are lost");
        for _ in lost..pushed {
            permit.send(()).expect("alive");
        }
        assert_eq!(reports.recv_timeout(PATIENCE), Ok(lost as u64));
        queue.close(PATIENCE);
        assert_eq!(read.try_iter().count(), pushed - lost);
    }

    #[test]
    fn a_broken_sink_loses_counted_lines() {
        let (queue, permit, _read, _) = queue();
        drop(permit);
        queue.push(b"one\n");
        queue.push(b"two\n");
        queue.close(PATIENCE);
        assert_eq!(queue.lost(), 2);
    }

    #[test]
    fn closing_gives_a_blocked_sink_up() {
        let (queue, _permit, _read, _) = queue();
        queue.push(b"stuck\n");
        queue.close(Duration::from_millis(1));
        queue.push(b"late\n");
        assert_eq!(queue.lost(), 1);
    }
}
