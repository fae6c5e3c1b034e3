//! A finished request, and the bounded queue of them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use llama_warden_events::{Incarnation, ServerId, TraceParent};
use tokio::sync::mpsc;

use crate::answer_ends::{AnswerFacts, TokenUse};
use crate::words::{RequestOutcome, TrafficRoute};

/// Finished requests that wait for telemetry. The next ones are lost, and counted.
const QUEUE: usize = 1024;

/// What is known of a request at its end. Never a part of a body.
#[derive(Debug, Clone)]
pub struct FinishedRequest {
    /// The id that the client gave, else ours.
    pub id: String,
    /// When its head was read.
    pub at: SystemTime,
    /// From its head to the last byte of its answer.
    pub took: Duration,
    /// Its method.
    pub method: http::Method,
    /// Its path, without the query.
    pub path: String,
    /// What it was for.
    pub route: TrafficRoute,
    /// The client's address; `None` over a unix socket.
    pub client: Option<IpAddr>,
    /// The name of the client's key.
    pub key: Option<Arc<str>>,
    /// The model that it named.
    pub model: Option<String>,
    /// The server that the name meant.
    pub server: Option<ServerId>,
    /// The launch that it was sent to last.
    pub incarnation: Option<Incarnation>,
    /// Whether it waited until that launch was ready.
    pub waited_for_launch: bool,
    /// How long it waited, for whatever.
    pub waited: Duration,
    /// From its head to when it was sent last; `None` where it never was.
    pub sent: Option<Duration>,
    /// From its head to the first token of a stream.
    pub first_token: Option<Duration>,
    /// How often it was sent again.
    pub retries: u32,
    /// The status of the answer; `None` where the client left before it.
    pub status: Option<u16>,
    /// How it ended.
    pub outcome: RequestOutcome,
    /// The code of the router's own error.
    pub code: Option<&'static str>,
    /// Bytes of its body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// The tokens that the answer tells.
    pub tokens: Option<TokenUse>,
    /// What the answer says of itself.
    pub answer: AnswerFacts,
    /// The span of the client.
    pub parent: Option<TraceParent>,
}

#[derive(Debug)]
pub(crate) struct FinishedSender {
    queue: mpsc::Sender<FinishedRequest>,
    lost: Arc<AtomicU64>,
}

/// The finished requests, in order.
#[derive(Debug)]
pub struct FinishedRequests {
    queue: mpsc::Receiver<FinishedRequest>,
    lost: Arc<AtomicU64>,
    told: u64,
}

impl FinishedRequests {
    pub(crate) fn queue() -> (FinishedSender, Self) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let lost = Arc::<AtomicU64>::default();
        (FinishedSender { queue: sender, lost: lost.clone() }, Self { queue: receiver, lost, told: 0 })
    }

    /// The next one; `None` when there will be none. Safe to cancel.
    pub async fn next(&mut self) -> Option<FinishedRequest> {
        self.queue.recv().await
    }

    /// The next one, where it is there already.
    pub fn try_next(&mut self) -> Option<FinishedRequest> {
        self.queue.try_recv().ok()
    }

    /// How many were lost since this was asked last.
    pub fn newly_lost(&mut self) -> u64 {
        let lost = self.lost.load(Ordering::Relaxed);
        lost - std::mem::replace(&mut self.told, lost)
    }
}

impl FinishedSender {
    pub(crate) fn send(&self, request: FinishedRequest) {
        if self.queue.try_send(request).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
