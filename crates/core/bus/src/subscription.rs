//! Reading the line of facts.

use std::collections::VecDeque;
use std::sync::Arc;

use llama_warden_events::{Envelope, Seq};
use llama_warden_state::Snapshot;
use tokio::sync::watch;

use crate::sequencer::Ledger;

/// What a subscription yields.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// The next fact.
    Event(Arc<Envelope>),
    /// Facts were forgotten before they were read. The snapshot contains them; what follows comes after it.
    Gap {
        /// How many facts are only in the snapshot.
        missed: u64,
        /// Everything known up to here.
        snapshot: Arc<Snapshot>,
    },
}

/// A reader of the line: each fact at most once, in order, and a gap is never silent.
#[derive(Debug)]
pub struct Subscription {
    name: &'static str,
    ledger: Arc<Ledger>,
    latest: watch::Receiver<Arc<Snapshot>>,
    start: Arc<Snapshot>,
    next: Seq,
    batch: VecDeque<Arc<Envelope>>,
}

impl Subscription {
    pub(crate) fn new(
        name: &'static str,
        ledger: Arc<Ledger>,
        latest: watch::Receiver<Arc<Snapshot>>,
        start: Arc<Snapshot>,
        after: Seq,
    ) -> Self {
        Self { name, ledger, latest, start, next: after.next(), batch: VecDeque::new() }
    }

    /// What was known when the subscription began. Facts up to its `seq` are not yielded, unless it was asked for
    /// earlier ones.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.start.clone()
    }

    /// The number of the next fact that has not been yielded.
    pub fn position(&self) -> Seq {
        self.batch.front().map_or(self.next, |envelope| envelope.seq)
    }

    /// The next fact or gap; `None` when the bus is closed and everything was read. Safe to cancel.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            if let Some(delivery) = self.try_next() {
                return Some(delivery);
            }
            self.latest.changed().await.ok()?;
        }
    }

    /// The next fact or gap if there is one already.
    pub fn try_next(&mut self) -> Option<Delivery> {
        if self.batch.is_empty() {
            let snapshot = self.latest.borrow_and_update().clone();
            if snapshot.seq < self.next {
                return None;
            }
            if self.ledger.read(self.next, snapshot.seq, &mut self.batch).is_err() {
                let missed = snapshot.seq.get() + 1 - self.next.get();
                self.next = snapshot.seq.next();
                self.ledger.count_gap(self.name);
                return Some(Delivery::Gap { missed, snapshot });
            }
            self.next = Seq::new(self.next.get() + self.batch.len() as u64);
        }
        self.batch.pop_front().map(Delivery::Event)
    }

    /// Skips to the oldest fact that is still kept and says how many are not, for readers who want history rather than
    /// state.
    pub fn skip_forgotten(&mut self) -> u64 {
        match self.ledger.first_kept() {
            Some(first) if first > self.next && self.batch.is_empty() => {
                let missed = first.get() - self.next.get();
                self.next = first;
                missed
            }
            _ => 0,
        }
    }
}
