//! The counters, all of them atomics: the router's thread counts, and a scrape reads on another one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Duration;

use llama_warden_events::ServerId;
use llama_warden_state::Histogram;
use llama_warden_support::lock;
use tokio::time::Instant;

use crate::finished::{FinishedRequest, FinishedRequests, FinishedSender};
use crate::words::{ConnectionSide, EvictedFor, RequestOutcome, RetryCause, TokenKind, TrafficRoute, WaitedFor};

const ROUTES: usize = TrafficRoute::ALL.len();
const OUTCOMES: usize = RequestOutcome::ALL.len();
const WAITS: usize = WaitedFor::ALL.len();
const KINDS: usize = TokenKind::ALL.len();
const RETRIES: usize = RetryCause::ALL.len();
const EVICTIONS: usize = EvictedFor::ALL.len();

/// Seconds of waits, requests and first tokens: a cached answer takes milliseconds, a long one behind a load many minutes.
const SECONDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];

/// Seconds of our own work on a request.
const OVERHEAD: &[f64] = &[0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.1];

/// The requests through the router, in numbers.
#[derive(Debug)]
pub struct RouterTraffic {
    servers: RwLock<BTreeMap<ServerId, Arc<ServerTraffic>>>,
    /// Of requests that came to no server.
    unnamed: Arc<ServerTraffic>,
    /// By code. Errors of the router itself are rare enough for a lock.
    rejections: Mutex<BTreeMap<&'static str, u64>>,
    overhead: TimeCounts,
    body_bytes: Arc<AtomicU64>,
    connections: [Arc<AtomicU64>; 2],
    finished: Option<FinishedSender>,
}

/// The requests of one server, in numbers.
#[derive(Debug)]
pub struct ServerTraffic {
    requests: [[AtomicU64; OUTCOMES]; ROUTES],
    in_flight: Arc<AtomicU64>,
    waiting: Arc<AtomicU64>,
    detached: Arc<AtomicU64>,
    waits: [TimeCounts; WAITS],
    seconds: [TimeCounts; ROUTES],
    first_token: TimeCounts,
    tokens: [AtomicU64; KINDS],
    retries: [AtomicU64; RETRIES],
    evictions: [AtomicU64; EVICTIONS],
    /// When others last had to stop for it.
    made_room: Mutex<Option<Instant>>,
}

impl Default for RouterTraffic {
    fn default() -> Self {
        Self {
            servers: RwLock::default(),
            unnamed: Arc::default(),
            rejections: Mutex::default(),
            overhead: TimeCounts::new(OVERHEAD),
            body_bytes: Arc::default(),
            connections: Default::default(),
            finished: None,
        }
    }
}

impl Default for ServerTraffic {
    fn default() -> Self {
        const fn seconds() -> TimeCounts {
            TimeCounts::new(SECONDS)
        }
        Self {
            requests: Default::default(),
            in_flight: Arc::default(),
            waiting: Arc::default(),
            detached: Arc::default(),
            waits: [const { seconds() }; WAITS],
            seconds: [const { seconds() }; ROUTES],
            first_token: seconds(),
            tokens: Default::default(),
            retries: Default::default(),
            evictions: Default::default(),
            made_room: Mutex::default(),
        }
    }
}

impl RouterTraffic {
    /// Counters, and the queue of finished requests for logs and spans.
    pub fn logged() -> (Self, FinishedRequests) {
        let (sender, receiver) = FinishedRequests::queue();
        (Self { finished: Some(sender), ..Self::default() }, receiver)
    }

    /// The counters of a server.
    pub fn server(&self, id: &ServerId) -> Arc<ServerTraffic> {
        if let Some(known) = self.servers.read().ok().and_then(|servers| servers.get(id).cloned()) {
            return known;
        }
        match self.servers.write() {
            Ok(mut servers) => servers.entry(id.clone()).or_default().clone(),
            // Nobody panics while it is held.
            Err(_) => self.unnamed.clone(),
        }
    }

    /// The servers that had requests, and under `None` the requests that came to no server.
    pub fn servers(&self) -> Vec<(Option<ServerId>, Arc<ServerTraffic>)> {
        let servers = self.servers.read();
        let servers =
            servers.iter().flat_map(|servers| servers.iter()).map(|(id, own)| (Some(id.clone()), own.clone()));
        std::iter::once((None, self.unnamed.clone())).chain(servers).collect()
    }

    /// The counters of requests that came to no server.
    pub(crate) fn unnamed(&self) -> Arc<ServerTraffic> {
        self.unnamed.clone()
    }

    /// A server is configured no more.
    pub fn forget(&self, id: &ServerId) {
        if let Ok(mut servers) = self.servers.write() {
            servers.remove(id);
        }
    }

    pub(crate) fn reject(&self, code: &'static str) {
        *lock(&self.rejections).entry(code).or_default() += 1;
    }

    /// The errors of the router itself, by code.
    pub fn rejections(&self) -> Vec<(&'static str, u64)> {
        lock(&self.rejections).iter().map(|(code, count)| (*code, *count)).collect()
    }

    /// The router's own time for requests.
    pub const fn overhead(&self) -> &TimeCounts {
        &self.overhead
    }

    /// Bytes of bodies are held, until the guard is dropped.
    pub fn hold_body(&self, bytes: u64) -> Counted {
        Counted::new(&self.body_bytes, bytes)
    }

    /// Bytes of bodies that are held.
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes.load(Ordering::Relaxed)
    }

    /// A connection is open, until the guard is dropped.
    pub fn connect(&self, side: ConnectionSide) -> Counted {
        Counted::new(&self.connections[side.place()], 1)
    }

    /// The open connections of a side.
    pub fn connections(&self, side: ConnectionSide) -> u64 {
        self.connections[side.place()].load(Ordering::Relaxed)
    }

    /// Whether finished requests are read by somebody.
    pub const fn is_logged(&self) -> bool {
        self.finished.is_some()
    }

    pub(crate) fn finish(&self, request: FinishedRequest) {
        if let Some(finished) = &self.finished {
            finished.send(request);
        }
    }
}

impl ServerTraffic {
    pub(crate) fn count(&self, route: TrafficRoute, outcome: RequestOutcome, took: Duration) {
        self.requests[route.place()][outcome.place()].fetch_add(1, Ordering::Relaxed);
        self.seconds[route.place()].observe(took);
    }

    /// Requests by route and outcome; those that did not occur are left out.
    pub fn requests(&self) -> impl Iterator<Item = (TrafficRoute, RequestOutcome, u64)> {
        let pairs =
            TrafficRoute::ALL.iter().flat_map(|route| RequestOutcome::ALL.iter().map(|outcome| (*route, *outcome)));
        pairs.filter_map(|(route, outcome)| {
            let count = self.requests[route.place()][outcome.place()].load(Ordering::Relaxed);
            (count > 0).then_some((route, outcome, count))
        })
    }

    /// A request is in flight, until the guard is dropped.
    pub fn begin(&self) -> Counted {
        Counted::new(&self.in_flight, 1)
    }

    /// A request is in flight whose client has left, until the guard is dropped.
    pub fn detach(&self) -> Counted {
        Counted::new(&self.detached, 1)
    }

    /// A request waits, for a slot of the ready server or for its start, until the guard is dropped.
    pub fn wait(self: &Arc<Self>, for_slot: bool) -> WaitGuard {
        WaitGuard { server: self.clone(), began: Instant::now(), for_slot, _waiting: Counted::new(&self.waiting, 1) }
    }

    /// Requests that are in flight, that wait, and that are in flight without a client.
    pub fn gauges(&self) -> [u64; 3] {
        [&self.in_flight, &self.waiting, &self.detached].map(|gauge| gauge.load(Ordering::Relaxed))
    }

    /// Others are stopped to make room for this server.
    pub fn room_is_made(&self) {
        *lock(&self.made_room) = Some(Instant::now());
    }

    /// It was stopped for the router.
    pub fn evict(&self, because: EvictedFor) {
        self.evictions[because.place()].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was stopped for the router.
    pub fn evictions(&self, because: EvictedFor) -> u64 {
        self.evictions[because.place()].load(Ordering::Relaxed)
    }

    pub(crate) fn retry(&self, cause: RetryCause) {
        self.retries[cause.place()].fetch_add(1, Ordering::Relaxed);
    }

    /// How often a request to it was sent again.
    pub fn retries(&self, cause: RetryCause) -> u64 {
        self.retries[cause.place()].load(Ordering::Relaxed)
    }

    pub(crate) fn use_tokens(&self, kind: TokenKind, tokens: u64) {
        self.tokens[kind.place()].fetch_add(tokens, Ordering::Relaxed);
    }

    /// Tokens of its answers.
    pub fn tokens(&self, kind: TokenKind) -> u64 {
        self.tokens[kind.place()].load(Ordering::Relaxed)
    }

    /// Times of waits.
    pub const fn waits(&self, what: WaitedFor) -> &TimeCounts {
        &self.waits[what.place()]
    }

    /// Times of whole requests.
    pub const fn seconds(&self, route: TrafficRoute) -> &TimeCounts {
        &self.seconds[route.place()]
    }

    /// Times to the first token of streams.
    pub const fn first_token(&self) -> &TimeCounts {
        &self.first_token
    }
}

/// Part of a gauge, given back when it is dropped.
#[derive(Debug)]
pub struct Counted {
    gauge: Arc<AtomicU64>,
    amount: u64,
}

impl Counted {
    fn new(gauge: &Arc<AtomicU64>, amount: u64) -> Self {
        gauge.fetch_add(amount, Ordering::Relaxed);
        Self { gauge: gauge.clone(), amount }
    }

    /// Counts so much more.
    pub fn grow(&mut self, amount: u64) {
        self.gauge.fetch_add(amount, Ordering::Relaxed);
        self.amount += amount;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

/// A request that waits. Its wait is counted when it is dropped, also where the client leaves.
#[derive(Debug)]
pub struct WaitGuard {
    server: Arc<ServerTraffic>,
    began: Instant,
    for_slot: bool,
    _waiting: Counted,
}

impl WaitGuard {
    /// What it waits for, as far as that is known by now.
    pub fn waited_for(&self) -> WaitedFor {
        let made_room = *lock(&self.server.made_room);
        match self.for_slot {
            true => WaitedFor::Slot,
            false if made_room.is_some_and(|at| at >= self.began) => WaitedFor::Eviction,
            false => WaitedFor::Start,
        }
    }
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        self.server.waits[self.waited_for().place()].observe(self.began.elapsed());
    }
}

/// Counts of times by upper bound. The buckets exist from the first one on.
#[derive(Debug)]
pub struct TimeCounts {
    bounds: &'static [f64],
    counts: OnceLock<Box<BucketCounts>>,
}

#[derive(Debug)]
struct BucketCounts {
    /// One for each bound, and one for what is above.
    buckets: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

impl TimeCounts {
    const fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: OnceLock::new() }
    }

    pub(crate) fn observe(&self, time: Duration) {
        let counts = self.counts.get_or_init(|| {
            let buckets = self.bounds.iter().map(|_| AtomicU64::new(0)).chain([AtomicU64::new(0)]).collect();
            Box::new(BucketCounts { buckets, nanoseconds: AtomicU64::new(0) })
        });
        let bucket = self.bounds.partition_point(|bound| *bound < time.as_secs_f64());
        counts.nanoseconds.fetch_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        counts.buckets[bucket].fetch_add(1, Ordering::Relaxed);
    }

    /// As they are now; empty before the first time.
    pub fn read(&self) -> Histogram {
        let Some(counts) = self.counts.get() else { return Histogram::new(self.bounds) };
        let buckets: Vec<u64> = counts.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let seconds = Duration::from_nanos(counts.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        Histogram::of_buckets(self.bounds, &buckets, seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ServerId {
        ServerId::new(text).expect("valid")
    }

    #[test]
    fn a_time_counts_in_the_buckets_from_its_own_on() {
        let counts = TimeCounts::new(&[1.0, 2.0]);
        assert_eq!(counts.read().count(), 0);
        for seconds in [0.5, 1.0, 1.5, 9.0] {
            counts.observe(Duration::from_secs_f64(seconds));
        }
        let read = counts.read();
        assert_eq!(read.cumulative().collect::<Vec<_>>(), [(1.0, 2), (2.0, 3)]);
        assert_eq!((read.count(), read.sum()), (4, 12.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_counted_by_what_it_was_for() {
        let traffic = RouterTraffic::default();
        let server = traffic.server(&id("a"));
        server.room_is_made();
        tokio::time::advance(Duration::from_secs(1)).await;
        let [slot, start, eviction] = [true, false, false].map(|for_slot| server.wait(for_slot));
        assert_eq!(server.gauges(), [0, 3, 0]);
        tokio::time::advance(Duration::from_secs(1)).await;
        drop((slot, start));
        server.room_is_made();
        tokio::time::advance(Duration::from_secs(2)).await;
        drop(eviction);
        let sums =
            WaitedFor::ALL.iter().map(|what| (what.as_str(), server.waits(*what).read().sum())).collect::<Vec<_>>();
        assert_eq!(sums, [("start", 1.0), ("eviction", 3.0), ("slot", 1.0)]);
        assert_eq!(server.gauges(), [0, 0, 0]);
    }

    #[test]
    fn a_server_that_is_forgotten_begins_anew() {
        let traffic = RouterTraffic::default();
        traffic.server(&id("a")).evict(EvictedFor::Idle);
        assert_eq!(traffic.server(&id("a")).evictions(EvictedFor::Idle), 1);
        traffic.forget(&id("a"));
        assert_eq!(traffic.servers().len(), 1, "that of no server is left");
        assert_eq!(traffic.server(&id("a")).evictions(EvictedFor::Idle), 0);
    }
}
