//! Sends spans to the collector by OTLP over plain HTTP, and counts those that did not arrive.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;

use super::TracingSettings;

/// Longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;

/// An exporter that adds the spans it could not send to `lost`.
pub(super) fn exporter(
    settings: &TracingSettings,
    lost: Arc<AtomicU64>,
) -> Result<impl SpanExporter + 'static, ExporterBuildError> {
    let client = CollectorClient {
        client: Client::builder(TokioExecutor::new()).build_http(),
        runtime: Handle::current(),
        timeout: settings.timeout,
    };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(settings.endpoint.to_string())
        .with_timeout(settings.timeout)
        .build()?;
    Ok(CountingExporter { exporter, lost })
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

/// Counts the spans that were not sent. The SDK only logs them, and its shutdown succeeds all the same.
#[derive(Debug)]
struct CountingExporter<E> {
    exporter: E,
    lost: Arc<AtomicU64>,
}

impl<E: SpanExporter> SpanExporter for CountingExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let exported = self.exporter.export(batch).await;
        if exported.is_err() {
            self.lost.fetch_add(spans, Ordering::Relaxed);
        }
        exported
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
