//! The metrics that llama-servers expose themselves: `?servers=1`.
//!
//! All ready servers are asked at once, each within the same deadline, so a server that hangs delays no other. Scrapes share a round: a
//! scrape that comes while servers are asked, or within [`FRESH`] of the start of the last round, gets the answers of that round. More
//! requests would disturb llama-server, which does not notice that clients have left while it is asked more than once a second.
//!
//! The outcomes are counted here, not in the snapshot, since a request to a server is no event.

mod ask;
mod exposition;
mod families;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::{BoxFuture, Shared};
use futures_util::{FutureExt, StreamExt, stream};
use llama_warden_bus::Bus;
use llama_warden_config::Fleet;
use llama_warden_events::ServerId;
use llama_warden_state::{Snapshot, Tally};
use llama_warden_support::lock;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use ask::{AskedServer, ServerAnswer};
pub(crate) use families::add;

/// How long a scrape waits for servers, unless the scraper itself waits for less.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3);

/// For how long the answers of a round are given to further scrapes.
const FRESH: Duration = Duration::from_secs(1);

/// Servers that are asked at a time. Each may answer with 1 MiB at most, which bounds the memory of a round.
const AT_A_TIME: usize = 256;

/// The outcome of asking one server for its own metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, strum::Display, strum::IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum ScrapeOutcome {
    /// It gave them.
    Ok,
    /// It sleeps, and is left so.
    Asleep,
    /// It goes to sleep when idle, and the question might wake it or keep it awake.
    MightWake,
    /// It was started without `--metrics`, or its build has none.
    NotOffered,
    /// It speaks TLS.
    Encrypted,
    /// It does not take its key.
    Unauthorized,
    /// It refuses connections.
    Refused,
    /// It did not answer in time.
    TimedOut,
    /// It broke the connection off.
    BrokenOff,
    /// It answers more than any metrics have.
    TooLarge,
    /// It answers something else than metrics.
    NotMetrics,
    /// It answers with another status than 200.
    BadStatus,
}

impl ScrapeOutcome {
    /// Its one spelling, a label.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What the servers answered so far in one round. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct OwnAnswers {
    answers: Arc<Mutex<BTreeMap<ServerId, ServerAnswer>>>,
    counts: Arc<Mutex<BTreeMap<ServerId, ScrapeCounts>>>,
    /// The servers that were ready when the round began, in order.
    asked: Arc<[ServerId]>,
}

impl OwnAnswers {
    /// The outcome of a server in this round; `None` for one that was not ready when the round began.
    pub fn outcome(&self, server: &str) -> Option<ScrapeOutcome> {
        self.asked.binary_search_by(|asked| asked.as_str().cmp(server)).ok()?;
        Some(lock(&self.answers).get(server).map_or(ScrapeOutcome::TimedOut, |answer| answer.outcome))
    }
}

/// Totals of one server in this run of the daemon.
#[derive(Debug, Clone, Default)]
struct ScrapeCounts {
    outcomes: Tally<ScrapeOutcome>,
    dropped_samples: u64,
}

/// Asks servers for their own metrics. Cheap to clone.
#[derive(Clone)]
pub struct ServerScraper {
    bus: Bus,
    fleet: watch::Receiver<Fleet>,
    counts: Arc<Mutex<BTreeMap<ServerId, ScrapeCounts>>>,
    latest: Arc<Mutex<Option<ScrapeRound>>>,
}

impl fmt::Debug for ServerScraper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerScraper").finish_non_exhaustive()
    }
}

/// One look at all servers.
#[derive(Clone)]
struct ScrapeRound {
    began: Instant,
    answers: OwnAnswers,
    /// Polled by the scrapes that wait for it.
    done: Shared<BoxFuture<'static, ()>>,
}

impl ServerScraper {
    /// A scraper of the servers that `bus` knows to be ready, addressed as `fleet` says.
    pub fn new(bus: Bus, fleet: watch::Receiver<Fleet>) -> Self {
        Self { bus, fleet, counts: Arc::default(), latest: Arc::default() }
    }

    /// Asks every ready server and waits for the answers, for `patience` at most. A server that has not answered by then counts as
    /// timed out.
    pub async fn ask(&self, patience: Duration) -> OwnAnswers {
        let ScrapeRound { answers, done, .. } = self.join_or_begin(patience);
        // The answers that have come by then are good all the same.
        let _ = timeout(patience, done).await;
        answers
    }

    fn join_or_begin(&self, patience: Duration) -> ScrapeRound {
        let mut latest = lock(&self.latest);
        if let Some(round) = latest.as_ref().filter(|round| round.is_fresh()) {
            return round.clone();
        }
        let round = self.begin(patience);
        *latest = Some(round.clone());
        round
    }

    fn begin(&self, patience: Duration) -> ScrapeRound {
        let began = Instant::now();
        let servers = self.ready_servers();
        let asked = servers.iter().map(|server| server.id.clone()).collect();
        let answers = OwnAnswers { counts: self.counts.clone(), asked, ..OwnAnswers::default() };
        let round = answers.clone();
        let done = async move {
            let answer_of = |server: AskedServer| async {
                let answer = server.ask(began + patience).await;
                round.take(server.id, answer);
            };
            stream::iter(servers).for_each_concurrent(AT_A_TIME, answer_of).await;
        };
        ScrapeRound { began, answers, done: done.boxed().shared() }
    }

    fn ready_servers(&self) -> Vec<AskedServer> {
        let (snapshot, fleet) = (self.bus.snapshot(), self.fleet.borrow().clone());
        self.forget_removed(&snapshot);
        let ready = snapshot.servers.iter().filter(|(_, record)| record.is_ready());
        // A server without a spec is being removed.
        ready.filter_map(|(id, record)| AskedServer::of(id, record, fleet.get(id.as_str())?)).collect()
    }

    fn forget_removed(&self, snapshot: &Snapshot) {
        lock(&self.counts).retain(|server, _| snapshot.servers.contains_key(server));
    }
}

impl ScrapeRound {
    /// Whether this round's answers are good for another scrape: it is not over, or began a moment ago.
    fn is_fresh(&self) -> bool {
        let age = self.began.elapsed();
        age < FRESH || self.done.peek().is_none() && age < DEADLINE
    }
}

impl OwnAnswers {
    fn take(&self, server: ServerId, answer: ServerAnswer) {
        let mut counts = lock(&self.counts);
        let of_server = counts.entry(server.clone()).or_default();
        of_server.outcomes.count(answer.outcome);
        of_server.dropped_samples += answer.metrics.dropped;
        drop(counts);
        lock(&self.answers).insert(server, answer);
    }
}
