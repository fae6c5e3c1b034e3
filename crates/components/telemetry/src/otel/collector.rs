//! Sends to the collector by OTLP over plain HTTP, and counts what did not arrive.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use llama_warden_otlp_wire::Wire;

use super::settings::SignalSettings;

/// Longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exported {
    /// Spans of commands and launches.
    Spans,
    /// Exports of metrics.
    Metrics,
    /// Log records.
    Logs,
}

impl fmt::Display for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spans => "spans",
            Self::Metrics => "exports of metrics",
            Self::Logs => "log records",
        })
    }
}

/// How much of one signal was to be sent, and how much arrived. What a full queue dropped has not arrived either.
#[derive(Debug)]
pub(super) struct DeliveryCount {
    signal: Exported,
    taken: AtomicU64,
    delivered: AtomicU64,
    refused: AtomicU64,
    is_failing: AtomicBool,
}

impl DeliveryCount {
    pub(super) fn new(signal: Exported) -> Self {
        let [taken, delivered, refused] = [const { AtomicU64::new(0) }; 3];
        Self { signal, taken, delivered, refused, is_failing: AtomicBool::new(false) }
    }

    /// So much is to be sent.
    pub(super) fn take(&self, number: u64) {
        self.taken.fetch_add(number, Ordering::Relaxed);
    }

    /// How much has not arrived. Right once nothing is sent any more.
    pub(super) fn lost(&self) -> u64 {
        self.taken.load(Ordering::Relaxed).saturating_sub(self.delivered.load(Ordering::Relaxed))
    }

    /// One try to send so much has ended. Said once when it begins to fail, and once when it works again: the collector may be gone
    /// for days.
    fn settle(&self, number: u64, result: Result<(), DeliveryError>) {
        let signal = self.signal;
        match result {
            Ok(()) => {
                self.delivered.fetch_add(number, Ordering::Relaxed);
                if self.is_failing.swap(false, Ordering::Relaxed) {
                    let lost = self.refused.swap(0, Ordering::Relaxed);
                    tracing::info!(%signal, lost, "the collector takes them again");
                }
            }
            Err(error) => {
                self.refused.fetch_add(number, Ordering::Relaxed);
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%signal, %error, "the collector does not take them; they are counted, and lost");
                }
            }
        }
    }
}

/// Why one try to send has failed.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    #[error("there is no connection to it, or none that lasts: {0}")]
    Connection(#[from] hyper_util::client::legacy::Error),
    #[error("its answer breaks off, or is too long: {0}")]
    Answer(Box<dyn std::error::Error + Send + Sync>),
    #[error("it answers {status}")]
    Status { status: StatusCode, retry_after: Option<Duration> },
    #[error("it does not answer within {} s", .0.as_secs_f64())]
    Slow(Duration),
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
}

impl DeliveryError {
    /// How long it asks to be left alone before the next try; `None` where no other try would do better. By the specification of the
    /// protocol.
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Connection(_) | Self::Answer(_) => Some(Duration::ZERO),
            Self::Status { status, retry_after } => {
                matches!(status.as_u16(), 429 | 502..=504).then(|| retry_after.unwrap_or_default())
            }
            Self::Slow(_) | Self::Request(_) => None,
        }
    }
}

/// Sends the requests of one signal.
#[derive(Debug)]
pub(super) struct SignalSender {
    client: CollectorClient,
    settings: SignalSettings,
    count: Arc<DeliveryCount>,
    /// The resource and the scope, as fields of the messages that hold the records.
    source: EncodedSource,
}

/// A client for all signals, which may share a connection.
pub(super) type CollectorClient = Client<HttpConnector, Full<Bytes>>;

/// Who sends, as it is in each request.
#[derive(Debug, Clone)]
pub(super) struct EncodedSource {
    /// A `Resource` in field 1.
    pub(super) resource: Wire,
    /// An `InstrumentationScope` in field 1.
    pub(super) scope: Wire,
}

impl EncodedSource {
    /// A request with these records. The messages of the three signals have the same shape.
    fn request(&self, records: &Wire) -> Vec<u8> {
        let length = self.resource.as_bytes().len() + self.scope.as_bytes().len() + records.as_bytes().len();
        let mut request = Wire::with_capacity(length + 32);
        let scoped = self.scope.as_bytes().len() + records.as_bytes().len();
        let with_resource = self.resource.as_bytes().len() + Wire::length_of_bytes(2, scoped) + scoped;
        request.begin_bytes(1, with_resource);
        request.append(&self.resource);
        request.begin_bytes(2, scoped);
        request.append(&self.scope);
        request.append(records);
        request.into_bytes()
    }
}

pub(super) fn client() -> CollectorClient {
    Client::builder(TokioExecutor::new()).build_http()
}

impl SignalSender {
    /// Most tries after the first, and the pause before the first of them, which doubles.
    const RETRIES: u32 = 3;
    const PAUSE: Duration = Duration::from_millis(100);

    pub(super) const fn new(
        client: CollectorClient,
        settings: SignalSettings,
        count: Arc<DeliveryCount>,
        source: EncodedSource,
    ) -> Self {
        Self { client, settings, count, source }
    }

    /// Sends one request, and counts what has become of it.
    pub(super) async fn send(&self, records: &Wire, number: u64) {
        let body = self.source.request(records).into();
        let limit = self.settings.timeout;
        let sent = tokio::time::timeout(limit, self.deliver(body)).await;
        self.count.settle(number, sent.unwrap_or(Err(DeliveryError::Slow(limit))));
    }

    async fn deliver(&self, body: Bytes) -> Result<(), DeliveryError> {
        let mut pause = Self::PAUSE;
        for _ in 0..Self::RETRIES {
            let Err(error) = self.attempt(body.clone()).await else { return Ok(()) };
            let Some(asked) = error.retry_after() else { return Err(error) };
            // The collector's other clients have failed at the same time.
            tokio::time::sleep(pause.max(asked) + pause.mul_f64(fastrand::f64())).await;
            pause *= 2;
        }
        self.attempt(body).await
    }

    fn attempt(&self, body: Bytes) -> impl Future<Output = Result<(), DeliveryError>> {
        let request = self.request(body);
        async move {
            let (head, body) = self.client.request(request?).await?.into_parts();
            Limited::new(body, LONGEST_ANSWER).collect().await.map_err(DeliveryError::Answer)?;
            if head.status.is_success() {
                return Ok(());
            }
            let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Err(DeliveryError::Status { status: head.status, retry_after: seconds.map(Duration::from_secs) })
        }
    }

    fn request(&self, body: Bytes) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::post(self.settings.endpoint.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))
            .header(USER_AGENT, HeaderValue::from_static("llama-warden"))
            .body(Full::new(body))?;
        for (name, value) in &self.settings.headers {
            let (name, value) = (HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
            request.headers_mut().insert(name, value);
        }
        Ok(request)
    }
}
