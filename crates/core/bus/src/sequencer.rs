//! The sequencer: the one task that numbers events.
//!
//! The order of its work for each batch, on which the guarantees rest: number and fold every event, append them to the ring,
//! store the snapshot in the watch, then acknowledge. Readers take from the ring only what the stored snapshot
//! contains, so no event is visible before its snapshot is.

use std::collections::BTreeMap;
use std::sync::Arc;

use llama_warden_events::{BootId, Envelope, EventPosition, Seq, Timestamp};
use llama_warden_state::{DaemonPhase, Snapshot};
use tokio::sync::{mpsc, oneshot, watch};

use crate::event_ring::EventRing;
use crate::publish::QueuedDraft;
use crate::{Clock, Publisher, Subscription, wall_time};

/// Events that wait to be numbered. When it is full, publishers wait; the sequencer itself never does.
const INLET: usize = 1024;

/// Events numbered before the snapshot is stored once for all of them.
const BATCH: usize = 64;

/// Reads events and snapshots. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bus {
    ring: Arc<EventRing>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    clock: Clock,
}

impl Bus {
    /// Starts the sequencer on the current runtime. It ends when every publisher is gone.
    ///
    /// `kept` events stay readable; a subscription that falls further behind gets a gap.
    pub fn start(boot: BootId, kept: usize) -> (Self, Publisher) {
        Self::start_with_wall_clock(boot, kept, wall_time)
    }

    /// As [`Self::start`], with the clock that dates events. It may jump: nothing but the dates follows it.
    pub fn start_with_wall_clock(
        boot: BootId,
        kept: usize,
        wall_clock: impl Fn() -> Timestamp + Send + 'static,
    ) -> (Self, Publisher) {
        let clock = Clock::start();
        let (inlet, drafts) = mpsc::channel(INLET);
        let first = Snapshot::new(boot);
        let (store, snapshot) = watch::channel(Arc::new(first));
        let ring = Arc::new(EventRing::new(kept));
        tokio::spawn(sequence(drafts, ring.clone(), store, clock, wall_clock));
        (Self { ring, snapshot, clock }, Publisher::new(inlet))
    }

    /// The latest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// The number of the last event that is visible.
    pub fn latest_seq(&self) -> Seq {
        self.snapshot.borrow().seq
    }

    /// The latest snapshot, to wait for a state instead of events.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// The time base of every event.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// Events from now on. `name` labels the gaps of this reader in the metrics.
    pub fn subscribe(&self, name: &'static str) -> Subscription {
        self.ring.know(name);
        let snapshot = self.snapshot();
        let after = snapshot.seq;
        Subscription::new(name, self.ring.clone(), self.snapshot.clone(), snapshot, after)
    }

    /// Events after a position. Events that the ring no longer holds come as a gap, and so does everything before now if the
    /// position is of another run or is still to come: what its reader knows is not the state of this run.
    pub fn subscribe_after(&self, name: &'static str, position: impl Into<EventPosition>) -> Subscription {
        self.ring.know(name);
        let (snapshot, position) = (self.snapshot(), position.into());
        let is_known = position.boot.is_none_or(|boot| boot == snapshot.boot) && position.seq <= snapshot.seq;
        let after = if is_known { position.seq } else { Seq::default() };
        let events = Subscription::new(name, self.ring.clone(), self.snapshot.clone(), snapshot, after);
        if is_known { events } else { events.of_stranger() }
    }

    /// How many gaps each subscriber had.
    pub fn gaps(&self) -> BTreeMap<&'static str, u64> {
        self.ring.gaps()
    }
}

/// Numbers what is published, in the order in which it comes. `DaemonStopped` is the last: what a component still says while the others
/// end would follow it or not by chance.
async fn sequence(
    mut drafts: mpsc::Receiver<QueuedDraft>,
    ring: Arc<EventRing>,
    store: watch::Sender<Arc<Snapshot>>,
    clock: Clock,
    wall_clock: impl Fn() -> Timestamp,
) {
    let mut snapshot = store.borrow().clone();
    let mut batch = Vec::with_capacity(BATCH);
    let mut numbered: Vec<(Arc<Envelope>, Option<oneshot::Sender<Seq>>)> = Vec::with_capacity(BATCH);
    while drafts.recv_many(&mut batch, BATCH).await > 0 {
        let state = Arc::make_mut(&mut snapshot);
        for QueuedDraft { draft, acknowledge } in batch.drain(..) {
            if state.daemon.phase == DaemonPhase::Stopped {
                tracing::debug!(event = ?draft.event, "dropped: it came after the end of the daemon");
                if let Some(acknowledge) = acknowledge {
                    let _ = acknowledge.send(state.seq);
                }
                continue;
            }
            let envelope = Envelope {
                seq: state.seq.next(),
                boot: state.boot,
                at: wall_clock(),
                elapsed: clock.now(),
                server: draft.server,
                incarnation: draft.incarnation,
                cause: draft.cause,
                event: draft.event,
            };
            state.apply(&envelope);
            numbered.push((Arc::new(envelope), acknowledge));
        }
        ring.append(numbered.iter().map(|(envelope, _)| envelope.clone()));
        store.send_replace(Arc::clone(&snapshot));
        for (envelope, acknowledge) in numbered.drain(..) {
            if let Some(acknowledge) = acknowledge {
                // The publisher may have been cancelled meanwhile; the event is published all the same.
                let _ = acknowledge.send(envelope.seq);
            }
        }
    }
}
