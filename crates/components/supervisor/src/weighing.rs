//! Asks the scales beside the loop, and never waits long for an answer.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use llama_warden_config::ServerSpec;
use llama_warden_events::ServerId;
use llama_warden_memory::{Gpus, MemoryProbe, MemoryRequirement, Reading};
use llama_warden_support::blocking;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// Longest wait for an answer; the files may lie on a disk that does not answer, and others wait too. What is not known
/// then is not weighed.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer.
#[derive(Debug)]
pub(crate) enum Weighed {
    Demand { server: ServerId, ticket: u64, demand: Option<MemoryRequirement> },
    Memory(Reading),
}

/// The questions under way. One a server at most for what it needs, and one for what there is.
#[derive(Debug)]
pub(crate) struct Weighing {
    scales: Arc<dyn MemoryProbe>,
    questions: JoinSet<Weighed>,
}

impl Weighing {
    pub(crate) fn new(scales: Arc<dyn MemoryProbe>) -> Self {
        Self { scales, questions: JoinSet::new() }
    }

    /// Asks what a server will need. One that is not configured needs nothing that is known.
    pub(crate) fn ask_demand(&mut self, server: ServerId, ticket: u64, spec: Option<Arc<ServerSpec>>) {
        let scales = Arc::clone(&self.scales);
        self.questions.spawn(async move {
            let demand = in_time(move || scales.estimate(spec?.as_ref())).await.flatten();
            Weighed::Demand { server, ticket, demand }
        });
    }

    /// Asks what there is, and how much of it these processes hold.
    pub(crate) fn ask_memory(&mut self, pids: Vec<u32>) {
        let scales = Arc::clone(&self.scales);
        let unknown = Reading { host: None, gpus: Gpus::Unmeasured, resident: Default::default() };
        self.questions
            .spawn(async move { Weighed::Memory(in_time(move || scales.read(&pids)).await.unwrap_or(unknown)) });
    }

    /// The next answer; for ever if nothing is asked.
    pub(crate) async fn next(&mut self) -> Weighed {
        loop {
            match self.questions.join_next().await {
                Some(Ok(weighed)) => return weighed,
                // The questions neither panic nor are they aborted before this is dropped.
                Some(Err(error)) => tracing::error!(%error, "a question about memory was lost"),
                None => std::future::pending().await,
            }
        }
    }
}

/// Runs `question` where it may block. `None` where it takes too long once it has begun, or panics.
async fn in_time<T: Send + 'static>(question: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let began = Arc::new(OnceLock::new());
    let begin = Arc::clone(&began);
    let asked = blocking(move || {
        begin.get_or_init(Instant::now);
        question()
    });
    let mut asked = pin!(asked);
    loop {
        // It waits for its turn first, which is looked at only when time is up: a wake in between would delay the answer.
        let since = began.get().copied().unwrap_or_else(Instant::now);
        match timeout_at(since + PATIENCE, asked.as_mut()).await {
            Ok(answer) => return answer.ok(),
            Err(_) if began.get().is_some_and(|began| began.elapsed() >= PATIENCE) => return None,
            Err(_) => {}
        }
    }
}
