//! Keeps what is counted of a server for the next daemon.
//!
//! While a process runs, its counts lie in a page that the shim holds open. Nothing is shown that is not there: a counter that went back
//! a little after a `kill -9` of the daemon would look as if it had begun anew, and Prometheus would count all of it again. A daemon that
//! hands over also keeps the counts of servers that are down, in a file.
//!
//! The page begins with the counts of lines, which change with every read of output, as numbers; the rest follows as a line of JSON.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use llama_warden_bus::{OutputCounters, OutputLane};
use llama_warden_events::{Incarnation, ServerId, ServerTotals, StreamName};
use llama_warden_processes::kept_page::KeptPage;
use llama_warden_state::Snapshot;
use llama_warden_state_files::{KeptTotals, LineTotals, TotalsByServer};

use super::context::{Launch, LaunchResources};

/// The streams in the order of their counts.
const STREAMS: [StreamName; 2] = [StreamName::Stdout, StreamName::Stderr];
/// Bytes of the counts of lines.
const LINES: usize = 32;

/// The page of a running launch.
pub(crate) struct TotalsPage {
    page: Arc<KeptPage>,
    server: ServerId,
    resources: Arc<LaunchResources>,
    /// Of the requests that the page has.
    revision: AtomicU64,
}

impl TotalsPage {
    pub(crate) fn new(page: &Arc<KeptPage>, launch: &Launch) -> Self {
        let (page, server, resources) = (page.clone(), launch.reporter.server.clone(), launch.resources.clone());
        Self { page, server, resources, revision: AtomicU64::new(0) }
    }

    /// Writes what the lines that were read have changed.
    pub(crate) fn store_output(&self) {
        let revision = self.resources.lane.requests().revision(&self.server);
        if self.revision.swap(revision, Ordering::Relaxed) == revision {
            self.write(0, &encoded(line_totals(&self.resources.lane, &self.server)));
        } else {
            self.store();
        }
    }

    /// Writes everything.
    pub(crate) fn store(&self) {
        let totals = totals(&self.resources.bus.snapshot(), &self.resources.lane, &self.server);
        let mut bytes = encoded(totals.lines).to_vec();
        // It has only texts and numbers, which can all be written.
        bytes.extend(serde_json::to_vec(&totals).unwrap_or_default());
        bytes.push(b'\n');
        self.write(0, &bytes);
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        // An error means that the machine has no memory: the next daemon goes on from what was written before.
        let _ = self.page.write(offset, bytes);
    }
}

/// What an earlier daemon has written into the page of a launch; `None` if that is nothing that can be read.
pub(crate) fn read(page: &KeptPage) -> Option<KeptTotals> {
    let bytes = page.read().ok()?;
    let (lines, rest) = bytes.split_at_checked(LINES)?;
    let totals = serde_json::from_slice(rest.split(|byte| *byte == b'\n').next()?).ok()?;
    let mut numbers = lines.chunks_exact(8).map(|chunk| chunk.try_into().map_or(0, u64::from_le_bytes));
    let mut next = || numbers.next().unwrap_or_default();
    let lines = STREAMS.map(|_| LineTotals { written: next(), dropped: next() });
    Some(KeptTotals { lines, ..totals })
}

/// What is counted of every server that was launched.
pub(crate) fn all(snapshot: &Snapshot, lane: &OutputLane) -> TotalsByServer {
    let launched = snapshot.servers.iter().filter(|(_, record)| record.counters.launches > 0);
    launched.map(|(server, _)| (server.clone(), totals(snapshot, lane, server))).collect()
}

/// Goes on with what was counted by lines, and returns what was counted by events. `launch` is that of a process that is there.
pub(crate) fn restore(
    lane: &OutputLane,
    server: &ServerId,
    launch: Option<Incarnation>,
    totals: KeptTotals,
) -> ServerTotals {
    let KeptTotals { events, requests, lines } = totals;
    for (stream, LineTotals { written, dropped }) in STREAMS.into_iter().zip(lines) {
        lane.restore(server, stream, OutputCounters { lines: written, dropped });
    }
    if let Some(mut requests) = requests {
        if launch.is_none() {
            requests.busy.clear();
        }
        lane.requests().restore(server.clone(), launch.unwrap_or_default(), requests);
    }
    events
}

fn totals(snapshot: &Snapshot, lane: &OutputLane, server: &ServerId) -> KeptTotals {
    let events = snapshot.servers.get(server).map(|record| record.totals()).unwrap_or_default();
    KeptTotals { events, requests: lane.requests().totals(server), lines: line_totals(lane, server) }
}

fn line_totals(lane: &OutputLane, server: &ServerId) -> [LineTotals; 2] {
    STREAMS.map(|stream| {
        let OutputCounters { lines, dropped } = lane.counters(server, stream);
        LineTotals { written: lines, dropped }
    })
}

fn encoded(lines: [LineTotals; 2]) -> [u8; LINES] {
    let mut bytes = [0; LINES];
    let numbers = lines.into_iter().flat_map(|LineTotals { written, dropped }| [written, dropped]);
    bytes.chunks_exact_mut(8).zip(numbers).for_each(|(chunk, number)| chunk.copy_from_slice(&number.to_le_bytes()));
    bytes
}

/// The counts by events, by server.
pub(crate) type EventTotals = BTreeMap<ServerId, ServerTotals>;
