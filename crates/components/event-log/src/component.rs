//! The component that keeps the event log.
//!
//! A thread does the writing, so a disk that hangs blocks that thread alone: the component waits, the bus continues, and at
//! worst the component misses events and logs how many. The thread is not a task of the runtime, whose
//! end would wait for it.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use llama_warden_bus::{Delivery, Subscription};
use llama_warden_component::{Component, Context, Ports};
use llama_warden_events::{Envelope, NoCommand};
use tokio::sync::{Notify, mpsc, oneshot};

use crate::file::RotatedFile;

/// Events that wait for the disk. When it is full, the component waits; its subscription then yields a gap in time.
const QUEUE: usize = 1024;

/// Bytes that are written at once.
const BATCH: usize = 64 << 10;

/// How long the end of the daemon waits for the last events to be written.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// Keeps every event as a line of JSON.
#[derive(Debug)]
pub struct EventLog {
    file: RotatedFile,
    /// Events that were dropped since the disk last took one; 0 while it takes them.
    lost: u64,
    reopener: LogReopener,
}

/// Makes the event log close its file and open the one under its name, for programs that rotate logs. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct LogReopener {
    /// It keeps one permit, so that no request is lost, and many requests are one.
    requested: Arc<Notify>,
}

impl LogReopener {
    /// Requests it. Does not wait.
    pub fn reopen(&self) {
        self.requested.notify_one();
    }
}

/// What the writer has to do.
#[derive(Debug)]
enum LogOrder {
    Write(Arc<Envelope>),
    Reopen,
}

impl EventLog {
    /// The log in the daemon's state directory, where `logs.event-log` wants one.
    pub fn build(context: &Context) -> Option<Self> {
        let limit = context.config().logs().event_log_bytes?;
        Some(Self::new(context.state_dir(), limit))
    }

    /// A log in the state directory, rotated after `limit` bytes.
    pub fn new(state_dir: impl Into<PathBuf>, limit: u64) -> Self {
        Self { file: RotatedFile::new(&state_dir.into(), limit), lost: 0, reopener: LogReopener::default() }
    }

    /// Reopens the file on request.
    pub fn reopener(&self) -> LogReopener {
        self.reopener.clone()
    }

    /// Carries out orders until the queue is closed; for the thread.
    fn work(mut self, mut orders: mpsc::Receiver<LogOrder>) {
        while let Some(order) = orders.blocking_recv() {
            match order {
                LogOrder::Write(first) => self.write(&first, &mut orders),
                LogOrder::Reopen => self.reopen(),
            }
        }
        if self.lost > 0 {
            tracing::warn!(lost = self.lost, "the event log is not whole");
        }
    }

    /// Writes an event and those that wait behind it. Nothing stays in a buffer: when no event waits, all are in the file.
    fn write(&mut self, first: &Envelope, waiting: &mut mpsc::Receiver<LogOrder>) {
        let most = BATCH.min(usize::try_from(self.file.room()).unwrap_or(BATCH));
        let mut events = 1;
        let mut lines = Vec::new();
        let mut encoded = encode(&mut lines, first);
        let mut is_reopened = false;
        while lines.len() < most && encoded.is_ok() && !is_reopened {
            match waiting.try_recv() {
                Ok(LogOrder::Write(next)) => {
                    events += 1;
                    encoded = encode(&mut lines, &next);
                }
                Ok(LogOrder::Reopen) => is_reopened = true,
                Err(_) => break,
            }
        }
        let written = encoded.and_then(|()| self.file.append(&lines));
        self.judge(written, events);
        if is_reopened {
            self.reopen();
        }
    }

    fn reopen(&mut self) {
        let reopened = self.file.reopen();
        let path = self.file.path().display();
        match reopened {
            Ok(()) => tracing::info!(%path, "the event log is reopened"),
            Err(error) => tracing::warn!(%path, %error, "the event log cannot be reopened; the next event tries again"),
        }
    }

    fn judge(&mut self, written: io::Result<()>, events: u64) {
        let (path, lost) = (self.file.path().display(), self.lost);
        match written {
            Ok(()) if lost == 0 => {}
            Ok(()) => {
                tracing::warn!(%path, lost, "the event log is written again");
                self.lost = 0;
            }
            Err(error) => {
                if lost == 0 {
                    tracing::warn!(%path, %error, "cannot write the event log; events are dropped until it can be");
                }
                self.lost += events;
            }
        }
    }
}

impl Component for EventLog {
    const NAME: &'static str = "event-log";

    type Command = NoCommand;
    type Error = Infallible;

    async fn run(self, ports: Ports<NoCommand>) -> Result<(), Infallible> {
        let (mut subscription, _) = ports.inbox.split();
        let (queue, orders) = mpsc::channel(QUEUE);
        let (done, written) = oneshot::channel();
        let reopener = self.reopener();
        let work = move || {
            self.work(orders);
            // The component may have given up waiting; the events are written all the same.
            let _ = done.send(());
        };
        if let Err(error) = thread::Builder::new().name("event-log".to_owned()).spawn(work) {
            // Servers are worth more than their history.
            tracing::warn!(%error, "the event log is not kept: the kernel gives no thread (look at `ulimit -u`)");
            ports.cancel.cancelled().await;
            return Ok(());
        }

        tokio::select! {
            () = feed(&mut subscription, &queue, &reopener) => {}
            () = ports.cancel.cancelled() => {}
        }
        let last_events = async {
            while let Some(delivery) = subscription.try_next() {
                pass(delivery, &queue).await;
            }
            drop(queue);
            // An error means that the writer has ended, which this waits for.
            let _ = written.await;
        };
        if tokio::time::timeout(LAST_EVENTS, last_events).await.is_err() {
            tracing::warn!("the disk did not take the last events of the event log in time");
        }
        Ok(())
    }
}

/// Passes events on until the bus is closed. Cancelled anywhere, it has not taken an event that it did not pass on.
async fn feed(events: &mut Subscription, queue: &mpsc::Sender<LogOrder>, reopener: &LogReopener) {
    while let Ok(room) = queue.reserve().await {
        tokio::select! {
            delivery = events.next() => match delivery {
                Some(Delivery::Event(envelope)) => room.send(LogOrder::Write(envelope)),
                Some(Delivery::Gap { missed, .. }) => warn_of_gap(missed),
                None => return,
            },
            () = reopener.requested.notified() => room.send(LogOrder::Reopen),
        }
    }
}

async fn pass(delivery: Delivery, queue: &mpsc::Sender<LogOrder>) {
    match delivery {
        Delivery::Event(envelope) => {
            if queue.send(LogOrder::Write(envelope)).await.is_err() {
                tracing::debug!("the writer of the event log is gone");
            }
        }
        Delivery::Gap { missed, .. } => warn_of_gap(missed),
    }
}

fn warn_of_gap(missed: u64) {
    tracing::warn!(missed, "the disk is slower than the events; some are not in the event log");
}

fn encode(lines: &mut Vec<u8>, envelope: &Envelope) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, envelope)?;
    lines.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use llama_warden_events::{BootId, Event, Seq, Timestamp, Uptime};
    use tracing::Level;

    use super::*;
    use llama_warden_component_kit::RecordedLog;

    fn event(seq: u64) -> Arc<Envelope> {
        Arc::new(Envelope {
            seq: Seq::new(seq),
            boot: BootId::from_random(1),
            at: Timestamp::new("2026-11-22T13:05:01Z".parse().expect("valid")),
            elapsed: Uptime::default(),
            server: None,
            incarnation: None,
            cause: None,
            event: Event::DaemonStopping { trigger: String::new() },
        })
    }

    /// Writes events as one batch.
    fn write(writer: &mut EventLog, seqs: &[u64]) {
        let (queue, mut waiting) = mpsc::channel(seqs.len());
        for seq in &seqs[1..] {
            queue.try_send(LogOrder::Write(event(*seq))).expect("has room");
        }
        writer.write(&event(seqs[0]), &mut waiting);
    }

    #[test]
    fn a_disk_that_takes_nothing_is_warned_of_once_and_used_again_when_it_does() {
        let directory = tempfile::tempdir().expect("is made");
        let missing = directory.path().join("not-yet");
        let mut writer = EventLog::new(&missing, 1 << 20);
        let recorded = RecordedLog::default();
        tracing::subscriber::with_default(recorded.subscriber(), || {
            write(&mut writer, &[1, 2, 3]);
            write(&mut writer, &[4]);
            assert_eq!(writer.lost, 4);
            let warnings = recorded.take();
            assert!(matches!(&warnings[..], [(Level::WARN, text)] if text.contains("cannot write")), "{warnings:?}");

            fs::create_dir(&missing).expect("is made");
            write(&mut writer, &[5, 6]);
            assert_eq!(writer.lost, 0);
            let warnings = recorded.take();
            assert!(matches!(&warnings[..], [(Level::WARN, text)] if text.contains("lost=4")), "{warnings:?}");
        });
        let text = fs::read_to_string(missing.join("events.jsonl")).expect("readable");
        let seqs: Vec<_> =
            text.lines().map(|line| serde_json::from_str::<Envelope>(line).expect("reads").seq).collect();
        assert_eq!(seqs, [Seq::new(5), Seq::new(6)]);
    }
}
