//! Asks the probe beside the loop, and never waits long for an answer.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use llama_warden_config::ServerSpec;
use llama_warden_events::ServerId;
use llama_warden_memory::{Demand, Gpus, Reading, Scales};
use llama_warden_support::blocking;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Longest wait for an answer; the files may lie on a disk that does not answer, and others wait too. What is not known
/// then is not weighed.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// An answer.
#[derive(Debug)]
pub(crate) enum MemoryAnswer {
    Requirement { server: ServerId, estimate_id: u64, requirement: Option<Demand> },
    Reading(Reading),
}

/// The queries under way. One a server at most for what it needs, and one for what there is.
#[derive(Debug)]
pub(crate) struct MemoryQueries {
    probe: Arc<dyn Scales>,
    queries: JoinSet<MemoryAnswer>,
}

impl MemoryQueries {
    pub(crate) fn new(probe: Arc<dyn Scales>) -> Self {
        Self { probe, queries: JoinSet::new() }
    }

    /// Asks what a server will need. One that is not configured needs nothing that is known.
    pub(crate) fn estimate(&mut self, server: ServerId, estimate_id: u64, spec: Option<Arc<ServerSpec>>) {
        let probe = Arc::clone(&self.probe);
        self.queries.spawn(async move {
            let demand = with_timeout(move || probe.demand(spec?.as_ref())).await.flatten();
            MemoryAnswer::Requirement { server, estimate_id, requirement: demand }
        });
    }

    /// Asks what there is, and how much of it these processes hold.
    pub(crate) fn read(&mut self, pids: Vec<u32>) {
        let probe = Arc::clone(&self.probe);
        let unknown = Reading { host: None, gpus: Gpus::Unmeasured, resident: Default::default() };
        self.queries.spawn(async move {
            MemoryAnswer::Reading(with_timeout(move || probe.read(&pids)).await.unwrap_or(unknown))
        });
    }

    /// The next answer; for ever if nothing is asked.
    pub(crate) async fn next(&mut self) -> MemoryAnswer {
        loop {
            match self.queries.join_next().await {
                Some(Ok(weighed)) => return weighed,
                // The queries neither panic nor are they aborted before this is dropped.
                Some(Err(error)) => tracing::error!(%error, "a query about memory was lost"),
                None => std::future::pending().await,
            }
        }
    }
}

/// Runs `question` where it may block. `None` where it takes too long once it has begun, or panics.
async fn with_timeout<T: Send + 'static>(query: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let started = Arc::new(OnceLock::new());
    let begin = Arc::clone(&started);
    let asked = blocking(move || {
        begin.get_or_init(Instant::now);
        query()
    });
    let mut asked = pin!(asked);
    loop {
        // It waits for its turn first, which is looked at only when time is up: a wake in between would delay the answer.
        let since = started.get().copied().unwrap_or_else(Instant::now);
        match timeout_at(since + QUERY_TIMEOUT, asked.as_mut()).await {
            Ok(answer) => return answer.ok(),
            Err(_) if started.get().is_some_and(|started| started.elapsed() >= QUERY_TIMEOUT) => return None,
            Err(_) => {}
        }
    }
}
