//! What waits to be sent: records, written already, in batches.
//!
//! Invariants: taking a record never waits for the collector; each record is delivered or counted as lost.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use llama_warden_otlp_wire::Wire;
use llama_warden_support::lock;
use tokio::sync::Notify;

use super::collector::DeliveryCount;
use super::settings::BatchSettings;

/// Takes records of one signal. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct RecordQueue {
    shared: Arc<QueuedRecords>,
}

#[derive(Debug)]
struct QueuedRecords {
    settings: BatchSettings,
    count: Arc<DeliveryCount>,
    waiting: Mutex<WaitingRecords>,
    /// The first record waits, a batch is full, or nothing follows.
    changed: Notify,
}

#[derive(Debug, Default)]
struct WaitingRecords {
    full: VecDeque<RecordBatch>,
    open: RecordBatch,
    /// In all batches.
    records: usize,
    is_closed: bool,
}

/// Records that are sent at once.
#[derive(Debug, Default)]
pub(super) struct RecordBatch {
    pub(super) wire: Wire,
    pub(super) records: u64,
}

impl RecordQueue {
    pub(super) fn new(settings: BatchSettings, count: Arc<DeliveryCount>) -> Self {
        let shared = QueuedRecords { settings, count, waiting: Mutex::default(), changed: Notify::new() };
        Self { shared: Arc::new(shared) }
    }

    /// Takes one record, which `write` appends. When the queue is full, the record is lost.
    pub(super) fn push(&self, write: impl FnOnce(&mut Wire)) {
        let QueuedRecords { settings, count, waiting, changed } = &*self.shared;
        count.take(1);
        let mut waiting = lock(waiting);
        if waiting.is_closed || waiting.records >= settings.queue {
            return;
        }
        write(&mut waiting.open.wire);
        waiting.open.records += 1;
        waiting.records += 1;
        if waiting.open.records >= settings.batch as u64 {
            let batch = std::mem::take(&mut waiting.open);
            waiting.full.push_back(batch);
            changed.notify_one();
        } else if waiting.records == 1 {
            changed.notify_one();
        }
    }

    /// Nothing follows: what waits is sent at once.
    pub(super) fn close(&self) {
        lock(&self.shared.waiting).is_closed = true;
        self.shared.changed.notify_one();
    }

    /// The next batch: a full one at once, else what there is some time after its first record. `None` when nothing follows. Not safe to
    /// cancel.
    pub(super) async fn next(&self) -> Option<RecordBatch> {
        let QueuedRecords { settings, waiting, changed, .. } = &*self.shared;
        let mut deadline = None;
        loop {
            let (is_empty, is_closed) = {
                let mut waiting = lock(waiting);
                if let Some(batch) = waiting.take_full() {
                    return Some(batch);
                }
                (waiting.open.records == 0, waiting.is_closed)
            };
            let is_due = deadline.is_some_and(|deadline| tokio::time::Instant::now() >= deadline);
            match (is_empty, is_closed) {
                (true, true) => return None,
                (true, false) => changed.notified().await,
                (false, _) if is_closed || is_due => return Some(lock(waiting).take_open()),
                (false, _) => {
                    let deadline = *deadline.get_or_insert_with(|| tokio::time::Instant::now() + settings.delay);
                    // Either it is time, or there is something new.
                    let _ = tokio::time::timeout_at(deadline, changed.notified()).await;
                }
            }
        }
    }
}

impl WaitingRecords {
    fn take_full(&mut self) -> Option<RecordBatch> {
        let batch = self.full.pop_front()?;
        self.records -= batch.records as usize;
        Some(batch)
    }

    fn take_open(&mut self) -> RecordBatch {
        let batch = std::mem::take(&mut self.open);
        self.records -= batch.records as usize;
        batch
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::super::collector::Exported;
    use super::*;

    const DELAY: Duration = Duration::from_secs(5);

    fn queue() -> (RecordQueue, Arc<DeliveryCount>) {
        let count = Arc::new(DeliveryCount::new(Exported::Logs));
        (RecordQueue::new(BatchSettings { delay: DELAY, queue: 7, batch: 3 }, count.clone()), count)
    }

    fn push(queue: &RecordQueue, records: usize) {
        (0..records).for_each(|_| queue.push(|wire| wire.text(2, "record")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_waits_for_others_no_longer_than_the_delay() {
        let (queue, _) = queue();
        let began = Instant::now();
        push(&queue, 1);
        let add = async {
            tokio::time::sleep(DELAY / 2).await;
            push(&queue, 1);
        };
        let (batch, ()) = tokio::join!(queue.next(), add);
        assert_eq!((batch.map(|batch| batch.records), began.elapsed()), (Some(2), DELAY));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_batch_waits_for_nothing_and_what_the_queue_does_not_hold_is_lost() {
        let (queue, count) = queue();
        push(&queue, 9);
        let began = Instant::now();
        let mut sizes = Vec::new();
        for _ in 0..3 {
            let batch = queue.next().await.expect("is open");
            sizes.push(batch.records);
        }
        assert_eq!((&sizes[..], began.elapsed()), (&[3, 3, 1][..], DELAY));
        assert_eq!(count.lost(), 9, "none is delivered yet");
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_the_rest_comes_at_once_and_then_nothing() {
        let (queue, _) = queue();
        push(&queue, 4);
        queue.close();
        push(&queue, 1);
        let began = Instant::now();
        let sizes = [queue.next().await, queue.next().await, queue.next().await];
        assert_eq!(sizes.map(|batch| batch.map(|batch| batch.records)), [Some(3), Some(1), None]);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
