//! A request without its answer: what it asks, whose it is, how it has waited; and the service that what answers it is built on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::header::HeaderValue;
use http::request::Parts;
use llama_warden_gates::QueueClient;
use llama_warden_held_body::HeldBody;
use llama_warden_support::lock;
use llama_warden_targets::ErrorDialect;
use llama_warden_traffic::{TrackedRequest, TrafficRoute};
use tokio::time::Instant;

use crate::caller::{Caller, Reach};
use crate::shared::Shared;

/// Answers the requests of a listener.
#[derive(Clone)]
pub(crate) struct RouterService {
    pub(crate) shared: Arc<Shared>,
    pub(crate) reach: Reach,
}

/// A request without its body.
pub(crate) struct Asked {
    pub(crate) parts: Parts,
    pub(crate) dialect: ErrorDialect,
    /// The client's id of the request, else ours.
    pub(crate) id: HeaderValue,
    pub(crate) begun: Instant,
    pub(crate) caller: Caller,
    pub(crate) client: QueueClient,
    pub(crate) route: TrafficRoute,
    pub(crate) tracked: Arc<TrackedRequest>,
    pub(crate) wait: WaitNotes,
    /// What is sent, where its client may be told that it waits.
    pub(crate) body: Mutex<Option<HeldBody>>,
}

impl Asked {
    pub(crate) fn path(&self) -> &str {
        self.parts.uri.path()
    }

    /// The path with its query.
    pub(crate) fn target(&self) -> &str {
        self.parts.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    pub(crate) fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// Keeps what is sent, where its client may be told that it waits: whether it wants a stream is seen only then.
    pub(crate) fn keep(&self, body: &HeldBody) {
        if body.is_whole() && self.may_be_told() {
            *lock(&self.body) = Some(body.clone());
        }
    }

    /// Whether it may be a stream that begins before its answer.
    pub(crate) fn may_be_told(&self) -> bool {
        use TrafficRoute::{Chat, Completions, Messages, Responses};
        matches!(self.route, Chat | Completions | Messages | Responses)
            && !self.parts.headers.contains_key("x-conversation-id")
    }
}

/// How a request has waited so far.
#[derive(Debug, Default)]
pub(crate) struct WaitNotes {
    waits: AtomicBool,
    milliseconds: AtomicU64,
}

/// Until it is dropped, the request waits.
pub(crate) struct WaitNote<'a>(&'a WaitNotes, Instant);

impl WaitNotes {
    /// The request waits from now on.
    pub(crate) fn begin(&self) -> WaitNote<'_> {
        self.waits.store(true, Ordering::Relaxed);
        WaitNote(self, Instant::now())
    }

    /// Whether it waits now.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waits.load(Ordering::Relaxed)
    }

    /// How long it has waited before.
    pub(crate) fn total(&self) -> Duration {
        Duration::from_millis(self.milliseconds.load(Ordering::Relaxed))
    }
}

impl Drop for WaitNote<'_> {
    fn drop(&mut self) {
        self.0.waits.store(false, Ordering::Relaxed);
        let took = u64::try_from(self.1.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.milliseconds.fetch_add(took, Ordering::Relaxed);
    }
}
