//! Memory estimates and readings, run off the event loop, each with a timeout of 5 s.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use llama_warden_config::ServerSpec;
use llama_warden_events::ServerId;
use llama_warden_memory::{Gpus, MemoryProbe, MemoryRequirement, Reading};
use llama_warden_support::blocking;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Longest time for one query. Model files may lie on a disk that does not answer, and launches of other servers wait for
/// the same answer. After it, the memory counts as unknown, which limits nothing.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of a query.
#[derive(Debug)]
pub(crate) enum MemoryAnswer {
    /// `None` where no estimate is possible, or it took too long.
    Requirement {
        server: ServerId,
        estimate_id: u64,
        requirement: Option<MemoryRequirement>,
    },
    Reading(Reading),
}

/// The queries under way: at most one estimate for each server, and one reading.
#[derive(Debug)]
pub(crate) struct MemoryQueries {
    probe: Arc<dyn MemoryProbe>,
    queries: JoinSet<MemoryAnswer>,
}

impl MemoryQueries {
    pub(crate) fn new(probe: Arc<dyn MemoryProbe>) -> Self {
        Self { probe, queries: JoinSet::new() }
    }

    /// Begins to estimate what a server will need. `spec` is `None` for a server that left the configuration.
    pub(crate) fn estimate(&mut self, server: ServerId, estimate_id: u64, spec: Option<Arc<ServerSpec>>) {
        let probe = Arc::clone(&self.probe);
        self.queries.spawn(async move {
            let requirement = with_timeout(move || probe.estimate(spec?.as_ref())).await.flatten();
            MemoryAnswer::Requirement { server, estimate_id, requirement }
        });
    }

    /// Begins to read how much memory is available, and how much of it these processes hold.
    pub(crate) fn read(&mut self, pids: Vec<u32>) {
        let probe = Arc::clone(&self.probe);
        let unknown = Reading { host: None, gpus: Gpus::Unmeasured, resident: Default::default() };
        self.queries.spawn(async move {
            MemoryAnswer::Reading(with_timeout(move || probe.read(&pids)).await.unwrap_or(unknown))
        });
    }

    /// The next answer. Waits for ever while no query is under way.
    pub(crate) async fn next(&mut self) -> MemoryAnswer {
        loop {
            match self.queries.join_next().await {
                Some(Ok(answer)) => return answer,
                // A query does not panic, and is not aborted before `self` is dropped.
                Some(Err(error)) => tracing::error!(%error, "a memory query was lost"),
                None => std::future::pending().await,
            }
        }
    }
}

/// Runs `query` on the blocking pool. `None` if it panics, or runs for longer than [`QUERY_TIMEOUT`]. The time that it
/// waits for a thread does not count.
async fn with_timeout<T: Send + 'static>(query: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let started = Arc::new(OnceLock::new());
    let start = Arc::clone(&started);
    let running = blocking(move || {
        start.get_or_init(Instant::now);
        query()
    });
    let mut running = pin!(running);
    loop {
        // The start is looked up only when a timeout has passed. Rejected: waking this task at the start, which delays the
        // answer of every query for the sake of the few that time out.
        let since = started.get().copied().unwrap_or_else(Instant::now);
        match timeout_at(since + QUERY_TIMEOUT, running.as_mut()).await {
            Ok(answer) => return answer.ok(),
            Err(_) if started.get().is_some_and(|started| started.elapsed() >= QUERY_TIMEOUT) => return None,
            Err(_) => {}
        }
    }
}
