//! Follows all events of a daemon in a background task, from the first one to the end of the stream.
//!
//! The task stores every event, so that a test can search events that came before it asked. It reads fast enough never to
//! fall behind: a gap in the stream fails the test.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use llama_warden_events::{BootId, Envelope, Seq};
use llama_warden_state::Snapshot;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::WAIT_LIMIT;
use crate::http::{Endpoint, RequestFailure, TestRequest};

/// The events that `/api/v1/events` sends. Cheap to clone: all clones share one reading task.
#[derive(Debug, Clone)]
pub struct EventStream {
    events: Arc<Mutex<Vec<Envelope>>>,
    /// The number of events; closed when the stream has ended.
    arrivals: watch::Receiver<u64>,
    /// The error of a stream that broke off.
    failure: Arc<OnceLock<String>>,
}

impl EventStream {
    /// Connects, and starts the reading task.
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, RequestFailure> {
        let request = TestRequest::get("/api/v1/events?since=0").header("accept", "application/x-ndjson");
        let response = request.open(endpoint).await?;
        let (arrived, arrivals) = watch::channel(0);
        let stream = Self { events: Arc::default(), arrivals, failure: Arc::default() };
        let (events, failure) = (Arc::clone(&stream.events), Arc::clone(&stream.failure));
        tokio::spawn(async move {
            if let Err(error) = read(response.into_body(), &events, &arrived).await {
                // Set before `arrived` is dropped: a reader that sees the end of the stream also sees the error.
                let _ = failure.set(error.to_string());
            }
            drop(arrived);
        });
        Ok(stream)
    }

    /// Every event so far.
    pub fn events(&self) -> Vec<Envelope> {
        self.lock().clone()
    }

    /// The id of the daemon's run; `None` before the first event.
    pub fn boot(&self) -> Option<BootId> {
        self.lock().first().map(|first| first.boot)
    }

    /// Waits for the first event after `after` for which `predicate` is true. `what` describes it in the panic message.
    ///
    /// # Panics
    /// If the event does not come within [`WAIT_LIMIT`], or the stream ends before it comes.
    #[track_caller]
    pub fn find(
        &self,
        what: &str,
        after: Seq,
        predicate: impl Fn(&Envelope) -> bool,
    ) -> impl Future<Output = Envelope> {
        let caller = std::panic::Location::caller();
        let mut arrivals = self.arrivals.clone();
        async move {
            let (mut searched, mut found) = (0, None);
            // `wait_for` calls the closure at once, after each arrival, and once more after the end of the stream.
            let search = arrivals.wait_for(|_| {
                let events = self.lock();
                found = events[searched..].iter().find(|event| event.seq > after && predicate(event)).cloned();
                searched = events.len();
                found.is_some()
            });
            match timeout(WAIT_LIMIT, search).await.map(|result| result.is_ok()) {
                Ok(true) => found.expect("the search ends with an event"),
                Ok(false) => panic!("{caller}: the events ended before {what}"),
                Err(_) => panic!("{caller}: not within {WAIT_LIMIT:?}: {what}"),
            }
        }
    }

    /// Waits for the end of the stream and returns every event.
    ///
    /// # Errors
    /// If the stream broke off, or does not end within [`WAIT_LIMIT`].
    pub async fn to_end(&self) -> Result<Vec<Envelope>, String> {
        let mut arrivals = self.arrivals.clone();
        let ended = timeout(WAIT_LIMIT, async { while arrivals.changed().await.is_ok() {} }).await;
        match (ended, self.failure.get()) {
            (Err(_), _) => Err("the events do not end".to_owned()),
            (Ok(()), Some(error)) => Err(format!("the events broke off: {error}")),
            (Ok(()), None) => Ok(self.events()),
        }
    }

    /// Folds the events up to `seq` into a snapshot, after waiting for event `seq`.
    ///
    /// # Panics
    /// As [`Self::find`].
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
            // A gap is a line that is no envelope, and panics here.
            let event: Envelope = serde_json::from_slice(&line)
                .unwrap_or_else(|error| panic!("no envelope ({error}): {}", String::from_utf8_lossy(&line)));
            events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            arrived.send_modify(|count| *count += 1);
        }
    }
    Ok(())
}
