//! Sends to the collector by OTLP over plain HTTP, and counts what did not arrive.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry::Context;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter};
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::trace::{BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor};
use tokio::runtime::Handle;

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
    fn settle(&self, number: u64, result: OTelSdkResult) -> OTelSdkResult {
        let signal = self.signal;
        match &result {
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
        result
    }
}

pub(super) fn span_exporter(
    settings: &SignalSettings,
    count: Arc<DeliveryCount>,
) -> Result<impl SpanExporter + 'static, ExporterBuildError> {
    let exporter = configured(opentelemetry_otlp::SpanExporter::builder().with_http(), settings).build()?;
    Ok(CountedExporter { exporter, count })
}

pub(super) fn metric_exporter(
    settings: &SignalSettings,
    count: Arc<DeliveryCount>,
) -> Result<impl PushMetricExporter, ExporterBuildError> {
    let exporter = configured(opentelemetry_otlp::MetricExporter::builder().with_http(), settings).build()?;
    Ok(CountedExporter { exporter, count })
}

pub(super) fn log_exporter(
    settings: &SignalSettings,
    count: Arc<DeliveryCount>,
) -> Result<impl LogExporter + 'static, ExporterBuildError> {
    let exporter = configured(opentelemetry_otlp::LogExporter::builder().with_http(), settings).build()?;
    Ok(CountedExporter { exporter, count })
}

fn configured<B: WithHttpConfig + WithExportConfig>(builder: B, settings: &SignalSettings) -> B {
    let client = CollectorClient {
        client: Client::builder(TokioExecutor::new()).build_http(),
        runtime: Handle::current(),
        timeout: settings.timeout,
    };
    builder
        .with_http_client(client)
        .with_headers(settings.headers.clone())
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(settings.endpoint.to_string())
        .with_timeout(settings.timeout)
}

/// An HTTP client that can be used from any thread.
///
/// The SDK's batch thread runs exports outside of any runtime, where a tokio socket panics. So each request is a task of the
/// daemon's runtime, and the batch thread only waits for that task.
#[derive(Debug)]
struct CollectorClient {
    client: Client<HttpConnector, Full<Bytes>>,
    runtime: Handle,
    timeout: Duration,
}

type Sending<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for CollectorClient {
    // The signature is what `async_trait` generates: one function does not justify that dependency.
    fn send_bytes<'life0, 'async_trait>(&'life0 self, request: Request<Bytes>) -> Sending<'async_trait>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        let answer = self.client.request(request.map(Full::new));
        let received = async move {
            let (head, body) = answer.await?.into_parts();
            let body = Limited::new(body, LONGEST_ANSWER).collect().await?.to_bytes();
            Ok::<_, HttpError>(Response::from_parts(head, body))
        };
        let timeout = self.timeout;
        let task = self.runtime.spawn(async move { tokio::time::timeout(timeout, received).await });
        Box::pin(async move { task.await?? })
    }
}

/// Counts what was sent. The SDK only logs what was not, and its shutdown succeeds all the same.
#[derive(Debug)]
struct CountedExporter<E> {
    exporter: E,
    count: Arc<DeliveryCount>,
}

impl<E: SpanExporter> SpanExporter for CountedExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        self.count.settle(spans, self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for CountedExporter<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let records = batch.iter().count() as u64;
        self.count.settle(records, self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl<E: PushMetricExporter> PushMetricExporter for CountedExporter<E> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.count.take(1);
        self.count.settle(1, self.exporter.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}

/// Counts the spans that end, before the queue that may drop them.
///
/// Around the queue and not beside it: for each of several processors, the SDK copies every span.
#[derive(Debug)]
pub(super) struct CountedSpans {
    pub(super) queue: BatchSpanProcessor,
    pub(super) count: Arc<DeliveryCount>,
}

impl SpanProcessor for CountedSpans {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.count.take(1);
        self.queue.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}
