//! Sinks, taps, rings and followers, by server and stream.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use llama_warden_events::{Incarnation, ServerId, StreamName, Timestamp};
use llama_warden_requests::RequestLog;
use tokio::sync::Notify;

use super::ring::{Entry, LineRing};
use crate::lock::lock;

/// One stream of one launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputKey {
    /// The server.
    pub server: ServerId,
    /// Its launch.
    pub incarnation: Incarnation,
    /// Standard error or standard output.
    pub stream: StreamName,
}

/// Sees every line of one stream of one launch. Dropped when the stream ends.
pub trait OutputTap: Send {
    /// One line without its line end; at most 64 KiB of it. Must not block.
    fn on_line(&mut self, line: &[u8]);

    /// The server wrote bytes that complete no line. Must not block.
    fn on_activity(&mut self) {}

    /// The lines so far are all that was there to read: what is needed once for many lines is done now. Must not block.
    fn on_pause(&mut self) {}
}

/// Creates taps.
pub trait TapFactory: Send + Sync {
    /// A tap for this stream, or none.
    fn tap(&self, key: &OutputKey) -> Option<Box<dyn OutputTap>>;
}

/// Line counts of one stream, those of earlier daemons that this one goes on from included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutputCounters {
    /// Lines that the server wrote.
    pub lines: u64,
    /// Lines that followers lost, and those that nobody has read.
    pub dropped: u64,
}

/// A line in a ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Its stream.
    pub stream: StreamName,
    /// Its position among all lines of its server, both streams counted.
    pub order: u64,
    /// Its position among the lines of its stream.
    pub number: u64,
    /// The launch that wrote it; 0 if that is no longer known.
    pub incarnation: Incarnation,
    /// When it was read from the server.
    pub at: Timestamp,
    /// Its bytes, as the server wrote them, without the line end.
    pub bytes: Vec<u8>,
}

/// What a follower reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowedLine {
    /// The next line.
    Line(LogLine),
    /// The ring dropped lines before the follower read them.
    Lost {
        /// The number of lines.
        lines: u64,
    },
}

/// What a follower reads at a time.
pub type Followed = Vec<FollowedLine>;

/// The output lane. Cheap to clone.
#[derive(Clone, Default)]
pub struct OutputLane {
    shared: Arc<LaneState>,
}

#[derive(Default)]
struct LaneState {
    outputs: Mutex<BTreeMap<ServerId, Arc<Output>>>,
    taps: Mutex<Vec<Arc<dyn TapFactory>>>,
    requests: RequestLog,
}

/// The output of one server.
#[derive(Default)]
struct Output {
    /// Lines of both streams so far.
    lines: AtomicU64,
    /// The latest launches and the order of their first line, at most [`Output::LAUNCHES`].
    launches: Mutex<VecDeque<(u64, Incarnation)>>,
    stderr: LaneStream,
    stdout: LaneStream,
    /// The server is no longer configured.
    is_over: AtomicBool,
}

#[derive(Default)]
struct LaneStream {
    ring: Mutex<LineRing>,
    /// Lines before those that the ring has counted.
    earlier: AtomicU64,
    dropped: AtomicU64,
    followers: AtomicUsize,
    /// Notified of new lines while somebody follows, and of the end.
    news: Notify,
}

impl Output {
    /// How many launches are told apart.
    const LAUNCHES: usize = 32;

    /// Lines from now on are of this launch.
    fn begin(&self, incarnation: Incarnation) {
        let mut launches = lock(&self.launches);
        // Both streams of a launch are opened.
        if launches.back().is_none_or(|(_, latest)| *latest != incarnation) {
            if launches.len() == Self::LAUNCHES {
                launches.pop_front();
            }
            launches.push_back((self.lines.load(Ordering::Relaxed), incarnation));
        }
    }

    /// A line of a ring, with its launch.
    fn line(&self, stream: StreamName, entry: Entry) -> LogLine {
        let launches = lock(&self.launches);
        let begun = launches.iter().rev().find(|(first, _)| *first <= entry.order);
        let incarnation = begun.map_or_else(Incarnation::default, |(_, incarnation)| *incarnation);
        let Entry { number, order, at, bytes } = entry;
        LogLine { stream, order, number, incarnation, at, bytes }
    }

    const fn stream(&self, name: StreamName) -> &LaneStream {
        match name {
            StreamName::Stderr => &self.stderr,
            StreamName::Stdout => &self.stdout,
        }
    }
}

impl fmt::Debug for OutputLane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputLane").finish_non_exhaustive()
    }
}

impl OutputLane {
    /// Adds a factory of taps; it is asked for each stream that is opened from now on.
    pub fn register_taps(&self, factory: Arc<dyn TapFactory>) {
        lock(&self.shared.taps).push(factory);
    }

    /// Opens a stream of a new launch. Its ring of `ring_bytes` goes on from the launch before.
    pub fn open(&self, key: &OutputKey, ring_bytes: usize) -> OutputSink {
        let taps = lock(&self.shared.taps).iter().filter_map(|factory| factory.tap(key)).collect();
        let output = self.output_or_new(&key.server);
        output.begin(key.incarnation);
        lock(&output.stream(key.stream).ring).resize_if_untouched(ring_bytes);
        OutputSink { taps, name: key.stream, output }
    }

    /// The latest `most` lines of a server, oldest first; of one stream or of both.
    pub fn tail(&self, server: &ServerId, stream: Option<StreamName>, most: usize) -> Vec<LogLine> {
        let Some(output) = self.output(server) else { return Vec::new() };
        let mut lines = Vec::new();
        for name in StreamName::ALL.into_iter().filter(|name| stream.is_none_or(|stream| stream == *name)) {
            let ring = lock(&output.stream(name).ring);
            let from = ring.next().saturating_sub(most as u64);
            lines.extend(ring.read(from, most).into_iter().map(|entry| output.line(name, entry)));
        }
        lines.sort_by_key(|line| line.order);
        let surplus = lines.len().saturating_sub(most);
        lines.drain(..surplus);
        lines
    }

    /// Follows one stream from the latest `tail` lines on, also before its first line.
    pub fn follow(&self, server: &ServerId, stream: StreamName, tail: usize) -> StreamFollower {
        let output = self.output_or_new(server);
        let followed = output.stream(stream);
        // Counted before the ring is read, so that a line that is pushed in between notifies this follower.
        followed.followers.fetch_add(1, Ordering::Relaxed);
        let ring = lock(&followed.ring);
        let next = ring.next().saturating_sub(tail as u64).max(ring.first());
        drop(ring);
        StreamFollower { name: stream, output, next }
    }

    /// Follows one stream behind the line of this number: what is no longer kept of it is a loss.
    pub fn follow_after(&self, server: &ServerId, stream: StreamName, number: u64) -> StreamFollower {
        let mut follower = self.follow(server, stream, 0);
        follower.next = follower.next.min(number.saturating_add(1));
        follower
    }

    /// The line counts of one stream.
    pub fn counters(&self, server: &ServerId, stream: StreamName) -> OutputCounters {
        self.output(server).map_or_else(OutputCounters::default, |output| {
            let stream = output.stream(stream);
            let lines = lock(&stream.ring).next() + stream.earlier.load(Ordering::Relaxed);
            OutputCounters { lines, dropped: stream.dropped.load(Ordering::Relaxed) }
        })
    }

    /// Goes on with the line counts of an earlier daemon, before the first line.
    pub fn restore(&self, server: &ServerId, stream: StreamName, counters: OutputCounters) {
        let output = self.output_or_new(server);
        let stream = output.stream(stream);
        stream.earlier.store(counters.lines, Ordering::Relaxed);
        stream.dropped.store(counters.dropped, Ordering::Relaxed);
    }

    /// Counts lines that a server wrote while nobody read them, and that are lost.
    pub fn count_lost(&self, server: &ServerId, stream: StreamName, lines: u64) {
        let output = self.output_or_new(server);
        let stream = output.stream(stream);
        stream.earlier.fetch_add(lines, Ordering::Relaxed);
        stream.dropped.fetch_add(lines, Ordering::Relaxed);
    }

    /// Drops the output of every server that `keep` rejects. Its followers read the lines that are left, and then the end.
    pub fn retain(&self, is_configured: impl Fn(&ServerId) -> bool) {
        self.shared.requests.retain(&is_configured);
        lock(&self.shared.outputs).retain(|server, output| {
            let stays = is_configured(server);
            if !stays {
                output.is_over.store(true, Ordering::Release);
                output.stderr.news.notify_waiters();
                output.stdout.news.notify_waiters();
            }
            stays
        });
    }

    /// The requests that taps found in the lines.
    pub fn requests(&self) -> &RequestLog {
        &self.shared.requests
    }

    fn output_or_new(&self, server: &ServerId) -> Arc<Output> {
        lock(&self.shared.outputs).entry(server.clone()).or_default().clone()
    }

    fn output(&self, server: &ServerId) -> Option<Arc<Output>> {
        lock(&self.shared.outputs).get(server).cloned()
    }
}

/// The writing end of one stream of one launch.
pub struct OutputSink {
    taps: Box<[Box<dyn OutputTap>]>,
    name: StreamName,
    output: Arc<Output>,
}

impl OutputSink {
    /// Tells the taps that the server wrote bytes which complete no line. Never waits.
    pub fn note_activity(&mut self) {
        self.taps.iter_mut().for_each(|tap| tap.on_activity());
    }

    /// Tells the taps that the lines so far are all that was there to read. Never waits.
    pub fn note_pause(&mut self) {
        self.taps.iter_mut().for_each(|tap| tap.on_pause());
    }

    /// Pushes one line without its line end, which was read at `at`. Never waits.
    pub fn push(&mut self, at: Timestamp, line: &[u8]) {
        for tap in &mut self.taps {
            tap.on_line(line);
        }
        let order = self.output.lines.fetch_add(1, Ordering::Relaxed);
        let stream = self.output.stream(self.name);
        let mut ring = lock(&stream.ring);
        ring.push(order, at, line);
        drop(ring);
        if stream.followers.load(Ordering::Relaxed) > 0 {
            stream.news.notify_waiters();
        }
    }
}

/// A reader of one stream at its own pace.
pub struct StreamFollower {
    name: StreamName,
    output: Arc<Output>,
    next: u64,
}

impl Drop for StreamFollower {
    fn drop(&mut self) {
        self.output.stream(self.name).followers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl StreamFollower {
    /// Lines read at a time.
    const BATCH: usize = 256;

    /// Waits for lines and returns a bounded number of them; a loss comes first. Safe to cancel. Follows the server across launches;
    /// `None` once it is no longer configured.
    pub async fn next(&mut self) -> Option<Followed> {
        let output = Arc::clone(&self.output);
        loop {
            // Registered before the ring is read, so that a line pushed in between is not missed.
            let news = output.stream(self.name).news.notified();
            let is_over = output.is_over.load(Ordering::Acquire);
            let followed = self.try_next();
            if !followed.is_empty() {
                return Some(followed);
            }
            if is_over {
                return None;
            }
            news.await;
        }
    }

    /// What [`Self::next`] would return at once; empty if it would wait or has ended.
    pub fn try_next(&mut self) -> Followed {
        let stream = self.output.stream(self.name);
        let ring = lock(&stream.ring);
        let mut followed = Vec::new();
        if ring.first() > self.next {
            let lines = ring.first() - self.next;
            stream.dropped.fetch_add(lines, Ordering::Relaxed);
            self.next = ring.first();
            followed.push(FollowedLine::Lost { lines });
        }
        for entry in ring.read(self.next, Self::BATCH) {
            self.next = entry.number + 1;
            followed.push(FollowedLine::Line(self.output.line(self.name, entry)));
        }
        followed
    }
}
