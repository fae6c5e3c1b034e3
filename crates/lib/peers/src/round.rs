//! Rounds of questions to all peers, which those who ask together share.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{self, BoxFuture};
use llama_warden_support::lock;
use tokio::time::Instant;

use crate::peer::Peer;

/// For how long the answers of a round are given to those who ask later.
const FRESH: Duration = Duration::from_secs(1);

/// The latest round of questions of one kind.
pub(crate) struct Rounds<T>(Mutex<Option<Round<T>>>);

#[derive(Clone)]
struct Round<T> {
    began: Instant,
    answers: future::Shared<BoxFuture<'static, Arc<[T]>>>,
}

impl<T> Default for Rounds<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> fmt::Debug for Rounds<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rounds").finish_non_exhaustive()
    }
}

impl<T: Clone + Send + Sync + 'static> Rounds<T> {
    /// The next question begins a round of its own.
    pub(crate) fn forget(&self) {
        *lock(&self.0) = None;
    }

    /// The answers of the latest round where it is fresh, else of a new one. `ask` answers in bounded time.
    pub(crate) async fn join<F>(&self, peers: Vec<Arc<Peer>>, ask: impl Fn(Arc<Peer>) -> F) -> Vec<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let answers = {
            let mut latest = lock(&self.0);
            let round = latest.take().filter(Round::is_fresh).unwrap_or_else(|| Round::begin(peers, ask));
            latest.insert(round).answers.clone()
        };
        answers.await.to_vec()
    }
}

impl<T: Clone + Send + Sync + 'static> Round<T> {
    fn begin<F>(peers: Vec<Arc<Peer>>, ask: impl Fn(Arc<Peer>) -> F) -> Self
    where
        F: Future<Output = T> + Send + 'static,
    {
        let questions = future::join_all(peers.into_iter().map(ask));
        // A task of its own: the requests that wait for it may leave, and each question has a deadline, so the task ends.
        let asking = tokio::spawn(questions.map(Arc::from));
        let answers = asking.map(|answers| answers.unwrap_or_else(|_| Arc::from([]))).boxed().shared();
        Self { began: Instant::now(), answers }
    }

    /// A round that is under way is shared, so that no peer is asked twice at a time.
    fn is_fresh(&self) -> bool {
        self.began.elapsed() < FRESH || self.answers.peek().is_none()
    }
}
