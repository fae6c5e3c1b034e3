//! What is counted of a server, as the next daemon reads it.
//!
//! While a process runs, its counts lie in a page that the shim holds open. Nothing is shown that is not there: a counter that went back
//! a little after a `kill -9` of the daemon would look as if it had begun anew, and Prometheus would count all of it again. A daemon that
//! hands over also keeps the counts of servers that are down, in a file.
//!
//! The page begins with the counts of lines, which change with every read of output, as numbers; the rest follows as a line of JSON.

use std::collections::BTreeMap;

use llama_warden_bus::{OutputCounters, OutputLane};
use llama_warden_events::{Incarnation, ServerId, ServerTotals, StreamName};
use llama_warden_processes::kept_page::KeptPage;
use llama_warden_state::Snapshot;
use llama_warden_state_files::{KeptTotals, LineTotals, TotalsByServer};

/// The streams in the order of their counts.
pub(super) const STREAMS: [StreamName; 2] = [StreamName::Stdout, StreamName::Stderr];
/// Bytes of the counts of lines.
const LINES: usize = 32;

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
    launched.map(|(server, _)| (server.clone(), of_server(snapshot, lane, server))).collect()
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

pub(super) fn of_server(snapshot: &Snapshot, lane: &OutputLane, server: &ServerId) -> KeptTotals {
    let events = snapshot.servers.get(server).map(|record| record.totals()).unwrap_or_default();
    KeptTotals { events, requests: lane.requests().totals(server), lines: of_lines(lane, server) }
}

pub(super) fn of_lines(lane: &OutputLane, server: &ServerId) -> [LineTotals; 2] {
    STREAMS.map(|stream| {
        let OutputCounters { lines, dropped } = lane.counters(server, stream);
        LineTotals { written: lines, dropped }
    })
}

pub(super) fn encoded(lines: [LineTotals; 2]) -> [u8; LINES] {
    let mut bytes = [0; LINES];
    let numbers = lines.into_iter().flat_map(|LineTotals { written, dropped }| [written, dropped]);
    bytes.chunks_exact_mut(8).zip(numbers).for_each(|(chunk, number)| chunk.copy_from_slice(&number.to_le_bytes()));
    bytes
}

/// The counts by events, by server.
pub(crate) type EventTotals = BTreeMap<ServerId, ServerTotals>;
