//! The facts of a daemon, all of them, as they come.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use llama_warden_events::{BootId, Envelope, Seq};
use llama_warden_state::Snapshot;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::PATIENCE;
use crate::http::{Endpoint, NoAnswer, Request};

/// Follows `/api/v1/events` from the first fact on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Feed {
    facts: Arc<Mutex<Vec<Envelope>>>,
    /// Changes with each fact; closed when the stream has ended.
    arrivals: watch::Receiver<u64>,
    /// Set where the stream has not come to its end.
    broken: Arc<OnceLock<String>>,
}

impl Feed {
    /// Begins to follow.
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, NoAnswer> {
        let request = Request::get("/api/v1/events?since=0").header("accept", "application/x-ndjson");
        let response = request.open(endpoint).await?;
        let facts = Arc::new(Mutex::new(Vec::new()));
        let (arrived, arrivals) = watch::channel(0);
        let broken = Arc::new(OnceLock::new());
        let (into, how) = (Arc::clone(&facts), Arc::clone(&broken));
        tokio::spawn(async move {
            if let Err(error) = read(response.into_body(), &into, &arrived).await {
                // Before `arrived` is gone, which tells of the end. This task alone sets it.
                let _ = how.set(error.to_string());
            }
            drop(arrived);
        });
        Ok(Self { facts, arrivals, broken })
    }

    /// Every fact so far.
    pub fn facts(&self) -> Vec<Envelope> {
        self.lock().clone()
    }

    /// The run of the daemon; `None` before the first fact.
    pub fn boot(&self) -> Option<BootId> {
        self.lock().first().map(|first| first.boot)
    }

    /// The first fact after `after` that `predicate` takes, once it is there.
    ///
    /// # Panics
    /// When it does not come within [`PATIENCE`], or the stream ends before.
    #[track_caller]
    pub fn find(
        &self,
        what: &str,
        after: Seq,
        predicate: impl Fn(&Envelope) -> bool,
    ) -> impl Future<Output = Envelope> {
        let caller = std::panic::Location::caller();
        let mut arrivals = self.arrivals.clone();
        let mut seen = 0;
        let mut look = move || {
            let facts = self.lock();
            let found = facts[seen..].iter().find(|fact| fact.seq > after && predicate(fact)).cloned();
            seen = facts.len();
            found
        };
        async move {
            let search = async {
                loop {
                    // Marked as seen before the look, so that what comes meanwhile is seen afterwards.
                    arrivals.borrow_and_update();
                    if let Some(found) = look() {
                        return Some(found);
                    }
                    if arrivals.changed().await.is_err() {
                        return look();
                    }
                }
            };
            match timeout(PATIENCE, search).await {
                Ok(Some(found)) => found,
                Ok(None) => panic!("{caller}: the facts ended before {what}"),
                Err(_) => panic!("{caller}: not within {PATIENCE:?}: {what}"),
            }
        }
    }

    /// Every fact, once the stream has ended; or why it did not end as it should.
    ///
    /// # Errors
    /// When it broke off, or goes on for [`PATIENCE`].
    pub async fn to_end(&self) -> Result<Vec<Envelope>, String> {
        let mut arrivals = self.arrivals.clone();
        let ended = timeout(PATIENCE, async { while arrivals.changed().await.is_ok() {} }).await;
        match (ended, self.broken.get()) {
            (Err(_), _) => Err("the facts do not end".to_owned()),
            (Ok(()), Some(error)) => Err(format!("the facts broke off: {error}")),
            (Ok(()), None) => Ok(self.facts()),
        }
    }

    /// The state that the facts up to `seq` come to.
    ///
    /// # Panics
    /// As [`Self::find`], for the fact `seq`.
    pub async fn replay(&self, seq: Seq) -> Snapshot {
        let last = self.find(&format!("fact {seq}"), Seq::new(seq.get().saturating_sub(1)), |_| true).await;
        let mut snapshot = Snapshot::new(last.boot);
        self.lock().iter().take_while(|fact| fact.seq <= seq).for_each(|fact| snapshot.apply(fact));
        snapshot
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Envelope>> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads to the end of the stream, which is the end of the daemon.
async fn read(mut body: Incoming, facts: &Mutex<Vec<Envelope>>, arrived: &watch::Sender<u64>) -> hyper::Result<()> {
    let mut partial = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame?.into_data() else { continue };
        partial.extend_from_slice(&bytes);
        while let Some(end) = partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = partial.drain(..=end).collect();
            if line.trim_ascii().is_empty() {
                continue;
            }
            // A gap would be a line without a seq: this reader is meant to be fast enough never to see one.
            let fact: Envelope = serde_json::from_slice(&line)
                .unwrap_or_else(|error| panic!("no envelope ({error}): {}", String::from_utf8_lossy(&line)));
            facts.lock().unwrap_or_else(PoisonError::into_inner).push(fact);
            arrived.send_modify(|count| *count += 1);
        }
    }
    Ok(())
}
