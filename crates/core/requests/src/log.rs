//! The requests of all servers.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use llama_warden_events::{Incarnation, ServerId, Timestamp};

use crate::{RequestLine, RequestRecord, RequestTotals};

/// The requests of all servers. Cheap to clone.
#[derive(Clone, Default)]
pub struct RequestLog {
    servers: Arc<Mutex<BTreeMap<ServerId, ServerRequests>>>,
}

/// The requests of one server.
#[derive(Default)]
struct ServerRequests {
    /// The launch that has the slots.
    launch: Incarnation,
    /// Whether that launch prints lines about requests, as far as is known.
    prints: bool,
    /// `None` before the first line.
    record: Option<Box<RequestRecord>>,
    /// Grows with every change.
    revision: u64,
}

impl fmt::Debug for RequestLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestLog").finish_non_exhaustive()
    }
}

impl RequestLog {
    /// A launch begins. One that is known already goes on with its slots: it was taken over.
    pub fn begin(&self, server: &ServerId, launch: Incarnation) {
        if let Some(requests) = self.servers().get_mut(server) {
            requests.enter(launch);
        }
    }

    /// A process has ended: none of its slots is busy.
    pub fn free_slots(&self, server: &ServerId, launch: Incarnation) {
        if let Some(requests) = self.servers().get_mut(server) {
            requests.enter(launch);
            if requests.launch == launch
                && let Some(record) = &mut requests.record
            {
                record.free_slots();
                requests.revision += 1;
            }
        }
    }

    /// Says whether a launch prints lines about requests, as its start-up suggests.
    pub fn set_prints(&self, server: &ServerId, launch: Incarnation, prints: bool) {
        let mut servers = self.servers();
        let requests = servers.entry(server.clone()).or_default();
        requests.enter(launch);
        if requests.launch == launch {
            requests.prints = prints;
            requests.revision += 1;
        }
    }

    /// Counts what a line of a launch says, which was read at `at`.
    pub fn note(&self, server: &ServerId, launch: Incarnation, line: RequestLine, at: Timestamp) {
        let mut servers = self.servers();
        let requests = servers.entry(server.clone()).or_default();
        requests.enter(launch);
        // The rest of a launch that was replaced: its slots are gone, its tokens are not.
        let is_slot = matches!(line, RequestLine::SlotBusy(_) | RequestLine::SlotReleased(_));
        if requests.launch == launch {
            requests.prints = true;
        } else if is_slot {
            return;
        }
        requests.revision += 1;
        requests.record.get_or_insert_default().note(line, at);
    }

    /// Whether the latest launch of a server prints lines about requests: otherwise no request does not mean no traffic.
    pub fn prints(&self, server: &ServerId) -> bool {
        self.servers().get(server).is_some_and(|requests| requests.prints)
    }

    /// Reads the requests of a server; `None` before its first one.
    pub fn read<T>(&self, server: &ServerId, read: impl FnOnce(&RequestRecord) -> T) -> Option<T> {
        self.servers().get(server)?.record.as_deref().map(read)
    }

    /// A number that another state of a server's requests does not have; 0 where nothing is known.
    pub fn revision(&self, server: &ServerId) -> u64 {
        self.servers().get(server).map_or(0, |requests| requests.revision)
    }

    /// The text for the next daemon; `None` where nothing is known.
    pub fn totals(&self, server: &ServerId) -> Option<RequestTotals> {
        let servers = self.servers();
        let requests = servers.get(server)?;
        let totals = requests.record.as_deref().map(RequestRecord::totals);
        Some(RequestTotals { prints: requests.prints, ..totals.unwrap_or_default() })
    }

    /// Goes on with what an earlier daemon was told about a server, whose process runs as this launch; as 0 if there is none.
    pub fn restore(&self, server: ServerId, launch: Incarnation, totals: RequestTotals) {
        let prints = totals.prints;
        let is_known = totals != RequestTotals { prints, ..RequestTotals::default() };
        let record = is_known.then(|| Box::new(RequestRecord::restored(totals)));
        self.servers().insert(server, ServerRequests { launch, prints, record, revision: 1 });
    }

    /// Forgets every server that `is_configured` rejects.
    pub fn retain(&self, is_configured: impl Fn(&ServerId) -> bool) {
        self.servers().retain(|server, _| is_configured(server));
    }

    /// A poisoned lock means that a reader panicked; the counts are whole.
    fn servers(&self) -> MutexGuard<'_, BTreeMap<ServerId, ServerRequests>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerRequests {
    /// A line, or a report, of this launch: one that is newer than those before has no busy slots yet.
    fn enter(&mut self, launch: Incarnation) {
        if launch > self.launch {
            self.launch = launch;
            if let Some(record) = &mut self.record {
                record.free_slots();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SlotKey, TokenTiming};

    const BUSY: RequestLine = RequestLine::SlotBusy(SlotKey { child: None, slot: 0 });
    const DECODE: RequestLine = RequestLine::Decode(TokenTiming { tokens: 8, milliseconds: 70.0 });

    fn server() -> ServerId {
        ServerId::new("a").expect("valid")
    }

    fn launch(number: u64) -> Incarnation {
        Incarnation::new(number)
    }

    fn noted(lines: &[(u64, RequestLine)]) -> RequestLog {
        let log = RequestLog::default();
        for (number, line) in lines {
            log.note(&server(), launch(*number), *line, Timestamp::from_unix_microseconds(1));
        }
        log
    }

    fn counts(log: &RequestLog) -> (u64, usize) {
        log.read(&server(), |record| (record.requests(), record.busy_slots())).unwrap_or_default()
    }

    #[test]
    fn counters_survive_a_restart_and_slots_do_not() {
        let log = noted(&[(1, BUSY), (1, DECODE)]);
        assert_eq!(counts(&log), (1, 1));
        log.free_slots(&server(), launch(1));
        assert_eq!(counts(&log), (1, 0));
        assert_eq!(counts(&noted(&[(1, BUSY), (1, DECODE), (2, DECODE)])), (2, 0));
    }

    #[test]
    fn a_launch_that_is_taken_over_goes_on_and_the_next_one_has_no_busy_slots() {
        let log = RequestLog::default();
        let earlier = noted(&[(3, BUSY), (3, DECODE)]);
        log.restore(server(), launch(3), earlier.totals(&server()).expect("known"));
        log.begin(&server(), launch(3));
        assert_eq!((counts(&log), log.prints(&server())), ((1, 1), true));
        log.begin(&server(), launch(4));
        assert_eq!((counts(&log), log.prints(&server())), ((1, 0), true));
    }

    #[test]
    fn a_late_line_of_an_earlier_launch_counts_and_takes_no_slot() {
        let log = noted(&[(2, DECODE), (1, BUSY), (1, DECODE)]);
        assert_eq!(counts(&log), (2, 0));
        log.note(&server(), launch(2), BUSY, Timestamp::from_unix_microseconds(1));
        log.free_slots(&server(), launch(1));
        assert_eq!(counts(&log), (2, 1));
    }

    #[test]
    fn a_server_that_printed_a_request_prints_requests_until_a_launch_that_does_not() {
        let log = noted(&[(1, DECODE)]);
        assert!(log.prints(&server()));
        log.set_prints(&server(), launch(2), false);
        log.set_prints(&server(), launch(1), true);
        assert!(!log.prints(&server()));
        assert_eq!(counts(&log), (1, 0));
    }

    #[test]
    fn a_server_without_requests_has_no_record() {
        let log = RequestLog::default();
        log.free_slots(&server(), launch(1));
        log.set_prints(&server(), launch(1), true);
        assert_eq!(log.read(&server(), |_| ()), None);
        assert!(log.prints(&server()));
        log.retain(|_| false);
        assert!(!log.prints(&server()));
    }
}
