//! The events of a daemon, all of them, as they come.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use llama_warden_events::{BootId, Envelope, Seq};
use llama_warden_state::Snapshot;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::WAIT_LIMIT;
use crate::http::{Endpoint, RequestFailure, TestRequest};

/// Follows `/api/v1/events` from the first event on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct EventStream {
    events: Arc<Mutex<Vec<Envelope>>>,
    /// Changes with each event; closed when the stream has ended.
    arrivals: watch::Receiver<u64>,
    /// Set where the stream has not come to its end.
    failure: Arc<OnceLock<String>>,
}

impl EventStream {
    /// Begins to follow.
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, RequestFailure> {
        let request = TestRequest::get("/api/v1/events?since=0").header("accept", "application/x-ndjson");
        let response = request.open(endpoint).await?;
        let events = Arc::new(Mutex::new(Vec::new()));
        let (arrived, arrivals) = watch::channel(0);
        let failure = Arc::new(OnceLock::new());
        let (into, failed_with) = (Arc::clone(&events), Arc::clone(&failure));
        tokio::spawn(async move {
            if let Err(error) = read(response.into_body(), &into, &arrived).await {
                // Before `arrived` is gone, which tells of the end. This task alone sets it.
                let _ = failed_with.set(error.to_string());
            }
            drop(arrived);
        });
        Ok(Self { events, arrivals, failure })
    }

    /// Every event so far.
    pub fn events(&self) -> Vec<Envelope> {
        self.lock().clone()
    }

    /// The run of the daemon; `None` before the first event.
    pub fn boot(&self) -> Option<BootId> {
        self.lock().first().map(|first| first.boot)
    }

    /// The first event after `after` that `predicate` takes, once it is there.
    ///
    /// # Panics
    /// When it does not come within [`WAIT_LIMIT`], or the stream ends before.
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
        let mut search_new = move || {
            let events = self.lock();
            let found = events[seen..].iter().find(|event| event.seq > after && predicate(event)).cloned();
            seen = events.len();
            found
        };
        async move {
            let search = async {
                loop {
                    // Marked as seen before the search_new, so that what comes meanwhile is seen afterwards.
                    arrivals.borrow_and_update();
                    if let Some(found) = search_new() {
                        return Some(found);
                    }
                    if arrivals.changed().await.is_err() {
                        return search_new();
                    }
                }
            };
            match timeout(WAIT_LIMIT, search).await {
                Ok(Some(found)) => found,
                Ok(None) => panic!("{caller}: the events ended before {what}"),
                Err(_) => panic!("{caller}: not within {WAIT_LIMIT:?}: {what}"),
            }
        }
    }

    /// Every event, once the stream has ended; or why it did not end as it should.
    ///
    /// # Errors
    /// When it broke off, or goes on for [`WAIT_LIMIT`].
    pub async fn to_end(&self) -> Result<Vec<Envelope>, String> {
        let mut arrivals = self.arrivals.clone();
        let ended = timeout(WAIT_LIMIT, async { while arrivals.changed().await.is_ok() {} }).await;
        match (ended, self.failure.get()) {
            (Err(_), _) => Err("the events do not end".to_owned()),
            (Ok(()), Some(error)) => Err(format!("the events broke off: {error}")),
            (Ok(()), None) => Ok(self.events()),
        }
    }

    /// The state that the events up to `seq` come to.
    ///
    /// # Panics
    /// As [`Self::find`], for the event `seq`.
    pub async fn replay(&self, seq: Seq) -> Snapshot {
        let last = self.find(&format!("event {seq}"), Seq::new(seq.get().saturating_sub(1)), |_| true).await;
        let mut snapshot = Snapshot::new(last.boot);
        self.lock().iter().take_while(|event| event.seq <= seq).for_each(|event| snapshot.apply(event));
        snapshot
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Envelope>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads to the end of the stream, which is the end of the daemon.
async fn read(mut body: Incoming, events: &Mutex<Vec<Envelope>>, arrived: &watch::Sender<u64>) -> hyper::Result<()> {
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
            let event: Envelope = serde_json::from_slice(&line)
                .unwrap_or_else(|error| panic!("no envelope ({error}): {}", String::from_utf8_lossy(&line)));
            events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            arrived.send_modify(|count| *count += 1);
        }
    }
    Ok(())
}
