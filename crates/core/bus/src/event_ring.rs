//! The ring of numbered events, which the sequencer fills and subscriptions read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use llama_warden_events::{Envelope, Seq};

use crate::lock::lock;

/// The ring grows by this many events. Doubling would leave half of it empty.
const ROOM: usize = 256;

/// Events that a reader takes at a time, so that the lock is held for a short time only.
const READ_AT_ONCE: usize = 64;

/// The ring of numbered events. A lock is held while pointers are copied, never across a wait.
#[derive(Debug)]
pub(crate) struct EventRing {
    kept: usize,
    ring: Mutex<VecDeque<Arc<Envelope>>>,
    gaps: Mutex<BTreeMap<&'static str, u64>>,
}

impl EventRing {
    /// An empty ring that keeps `kept` events, and one at least.
    pub(crate) fn new(kept: usize) -> Self {
        Self { kept: kept.max(1), ring: Mutex::default(), gaps: Mutex::default() }
    }

    /// Moves the events from `next` to `last` into `into`, [`READ_AT_ONCE`] at most. If the ring no longer holds `next`, returns
    /// the first number that it holds as the error.
    pub(crate) fn read(&self, next: Seq, last: Seq, into: &mut VecDeque<Arc<Envelope>>) -> Result<(), Seq> {
        let ring = lock(&self.ring);
        let Some(first) = ring.front().map(|envelope| envelope.seq) else { return Ok(()) };
        if next < first {
            return Err(first);
        }
        let from = (next.get() - first.get()) as usize;
        let upto = (last.get() + 1 - first.get()) as usize;
        into.extend(ring.range(from.min(ring.len())..upto.min(ring.len())).take(READ_AT_ONCE).cloned());
        Ok(())
    }

    pub(crate) fn first_kept(&self) -> Option<Seq> {
        lock(&self.ring).front().map(|envelope| envelope.seq)
    }

    /// Starts a subscriber's count of gaps at 0, so that the metric exists before the first gap.
    pub(crate) fn know(&self, subscriber: &'static str) {
        lock(&self.gaps).entry(subscriber).or_default();
    }

    pub(crate) fn count_gap(&self, subscriber: &'static str) {
        *lock(&self.gaps).entry(subscriber).or_default() += 1;
    }

    /// How many gaps each subscriber had.
    pub(crate) fn gaps(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.gaps).clone()
    }

    pub(crate) fn append(&self, envelopes: impl Iterator<Item = Arc<Envelope>>) {
        let mut ring = lock(&self.ring);
        for envelope in envelopes {
            if ring.len() == self.kept {
                ring.pop_front();
            }
            if ring.len() == ring.capacity() {
                let missing = self.kept - ring.len();
                ring.reserve_exact(missing.min(ROOM));
            }
            ring.push_back(envelope);
        }
    }
}
