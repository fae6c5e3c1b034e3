//! Subscriptions: reading events in order.

use std::collections::VecDeque;
use std::sync::Arc;

use llama_warden_events::{Envelope, Seq};
use llama_warden_state::Snapshot;
use tokio::sync::watch;

use crate::event_ring::EventRing;

/// What a subscription yields.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// The next event.
    Event(Arc<Envelope>),
    /// The ring dropped events before this subscriber read them. The snapshot contains them; the next delivery follows it.
    Gap {
        /// The number of missed events.
        missed: u64,
        /// The state after the missed events.
        snapshot: Arc<Snapshot>,
    },
}

/// Reads events: each at most once, in order, and a gap is always reported.
#[derive(Debug)]
pub struct Subscription {
    name: &'static str,
    ring: Arc<EventRing>,
    latest: watch::Receiver<Arc<Snapshot>>,
    start: Arc<Snapshot>,
    next: Seq,
    batch: VecDeque<Arc<Envelope>>,
    /// The reader comes from another run, and gets a gap before anything else.
    is_stranger: bool,
}

impl Subscription {
    pub(crate) fn new(
        name: &'static str,
        ring: Arc<EventRing>,
        latest: watch::Receiver<Arc<Snapshot>>,
        start: Arc<Snapshot>,
        after: Seq,
    ) -> Self {
        Self { name, ring, latest, start, next: after.next(), batch: VecDeque::new(), is_stranger: false }
    }

    /// Begins with a gap.
    pub(crate) fn of_stranger(mut self) -> Self {
        self.is_stranger = true;
        self
    }

    /// The snapshot at the start of the subscription. Events up to its `seq` are not yielded, unless the subscription starts at
    /// an earlier one.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.start.clone()
    }

    /// The number of the next event that has not been yielded.
    pub fn position(&self) -> Seq {
        self.batch.front().map_or(self.next, |envelope| envelope.seq)
    }

    /// The next event or gap; `None` when the bus is closed and everything was read. Safe to cancel.
    pub async fn next(&mut self) -> Option<Delivery> {
        loop {
            if let Some(delivery) = self.try_next() {
                return Some(delivery);
            }
            self.latest.changed().await.ok()?;
        }
    }

    /// The next event or gap if there is one already.
    pub fn try_next(&mut self) -> Option<Delivery> {
        if std::mem::take(&mut self.is_stranger) {
            let snapshot = self.latest.borrow_and_update().clone();
            return Some(self.gap(snapshot));
        }
        if self.batch.is_empty() {
            let snapshot = self.latest.borrow_and_update().clone();
            if snapshot.seq < self.next {
                return None;
            }
            if self.ring.read(self.next, snapshot.seq, &mut self.batch).is_err() {
                return Some(self.gap(snapshot));
            }
            self.next = Seq::new(self.next.get() + self.batch.len() as u64);
        }
        self.batch.pop_front().map(Delivery::Event)
    }

    /// Everything up to a snapshot is missed.
    fn gap(&mut self, snapshot: Arc<Snapshot>) -> Delivery {
        let missed = snapshot.seq.get() + 1 - self.next.get();
        self.next = snapshot.seq.next();
        self.ring.count_gap(self.name);
        Delivery::Gap { missed, snapshot }
    }

    /// Skips to the oldest event in the ring and returns how many events were skipped: for readers that want history instead of
    /// state. `None` if none is missing; 0 for a reader from another run, who gets all that is kept.
    pub fn skip_forgotten(&mut self) -> Option<u64> {
        let is_stranger = std::mem::take(&mut self.is_stranger);
        match self.ring.first_kept() {
            Some(first) if first > self.next && self.batch.is_empty() => {
                let missed = first.get() - self.next.get();
                self.next = first;
                Some(missed)
            }
            _ => is_stranger.then_some(0),
        }
    }
}
