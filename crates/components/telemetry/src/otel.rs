//! Traces, metrics and log records of launches, for an OpenTelemetry collector.
//!
//! Spans and log records are built from events, one by one; metrics are read from the snapshot when they are due, so they cost
//! nothing in between. Each signal is sent by OTLP over plain HTTP from a thread of its own, with a bounded queue before it. What does
//! not fit or does not arrive is counted: one warning when a collector begins to fail, one line when it takes again, and the sum at
//! the end.

mod collector;
mod commands;
mod ids;
mod logs;
mod metrics;
mod recorder;
mod requests;
mod settings;
mod spans;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use llama_warden_bus::Bus;
use llama_warden_support::try_thread;
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tokio::sync::oneshot;
use tokio::time::timeout;

use collector::DeliveryCount;
use ids::LaunchIds;

pub use collector::Exported;
pub use recorder::ExportRecorder;
pub use settings::{ExportSettings, VariableProblem};

/// The name under which everything is sent: the instrumentation scope.
const SCOPE: &str = "llama-warden";

/// OpenTelemetry has no unsigned numbers.
fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Why something cannot be sent, or was not.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The kernel gives no thread to export from.
    #[error("cannot start a thread for the export of {0}")]
    Thread(Exported, #[source] io::Error),
    /// The exporter does not take its settings.
    #[error("cannot set up the export of {0}")]
    Exporter(Exported, #[source] opentelemetry_otlp::ExporterBuildError),
    /// The collector refused or did not answer, or too much came at once.
    #[error("{lost} {signal} did not reach the collector")]
    Lost {
        /// Of what.
        signal: Exported,
        /// How many.
        lost: u64,
    },
    /// The last ones were not sent in time.
    #[error("the collector did not take the last {signal} within {} s; {lost} did not reach it", bound.as_secs_f64())]
    Slow {
        /// Of what.
        signal: Exported,
        /// How many have not arrived, the last ones included.
        lost: u64,
        /// The time that it was given.
        bound: Duration,
    },
}

/// The connection to a collector. It must outlive the components, so that what they say last is sent. Close it with
/// [`finish`](Self::finish).
#[derive(Debug)]
pub struct Exports {
    traces: Option<Export<SdkTracerProvider>>,
    metrics: Option<Export<SdkMeterProvider>>,
    logs: Option<Export<SdkLoggerProvider>>,
    ids: LaunchIds,
}

/// One signal that is exported.
#[derive(Debug)]
struct Export<P> {
    provider: P,
    count: Arc<DeliveryCount>,
}

/// Who exports: the version of llama-warden, and the bus of this run.
#[derive(Debug, Clone)]
pub struct ExportSource {
    /// The version of llama-warden.
    pub version: &'static str,
    /// The bus, from which metrics are read.
    pub bus: Bus,
}

impl Exports {
    /// Starts sending what the settings ask for. Must be called on a tokio runtime that lives until [`finish`](Self::finish) returns.
    /// What cannot be started is in the list, and the rest is sent.
    pub fn start(settings: &ExportSettings, source: &ExportSource) -> (Self, Vec<ExportError>) {
        let resource = resource(settings, source);
        let ids = LaunchIds::default();
        let mut errors = Vec::new();
        // The SDK panics without a thread.
        let mut keep = |signal, try_thread: io::Result<()>| {
            try_thread.map_err(|error| errors.push(ExportError::Thread(signal, error))).is_ok()
        };
        let traces = settings.traces.as_ref().filter(|_| keep(Exported::Spans, try_thread()));
        let metrics = settings.metrics.as_ref().filter(|_| keep(Exported::Metrics, try_thread()));
        let logs = settings.logs.as_ref().filter(|_| keep(Exported::Logs, try_thread()));
        let traces = traces.map(|signal| spans::export(signal, settings.span_batches, &ids, resource.clone()));
        let metrics = metrics
            .map(|signal| metrics::export(signal, settings.metric_interval, source.bus.clone(), resource.clone()));
        let logs = logs.map(|signal| logs::export(signal, settings.log_batches, resource.clone()));
        let exports = Self {
            traces: started(Exported::Spans, traces, &mut errors),
            metrics: started(Exported::Metrics, metrics, &mut errors),
            logs: started(Exported::Logs, logs, &mut errors),
            ids,
        };
        (exports, errors)
    }

    /// A recorder of what is sent.
    pub fn recorder(&self) -> ExportRecorder {
        ExportRecorder {
            spans: self.traces.as_ref().map(|traces| spans::recorder(&traces.provider, &self.ids)),
            metrics: self.metrics.as_ref().map(|metrics| metrics::recorder(&metrics.provider)),
            logs: self.logs.as_ref().map(|logs| logs::recorder(&logs.provider, &logs.count)),
        }
    }

    /// Sends what is left and reports what did not arrive. Takes at most `bound`, for all signals at once. Call it after all servers
    /// have ended, so that a collector that does not answer delays nothing else.
    pub async fn finish(self, bound: Duration) -> Vec<ExportError> {
        let Self { traces, metrics, logs, .. } = self;
        // Longer than the wait for it, so that there is one answer to what is too slow.
        let limit = 2 * bound;
        let ends = tokio::join!(
            end(Exported::Spans, traces, bound, move |traces| drop(traces.shutdown_with_timeout(limit))),
            end(Exported::Metrics, metrics, bound, move |metrics| drop(metrics.shutdown_with_timeout(limit))),
            end(Exported::Logs, logs, bound, move |logs| drop(logs.shutdown_with_timeout(limit))),
        );
        [ends.0, ends.1, ends.2].into_iter().flatten().collect()
    }
}

fn started<P>(
    signal: Exported,
    export: Option<Result<Export<P>, opentelemetry_otlp::ExporterBuildError>>,
    errors: &mut Vec<ExportError>,
) -> Option<Export<P>> {
    export?.map_err(|error| errors.push(ExportError::Exporter(signal, error))).ok()
}

/// Shuts one signal down. Not on the blocking pool: the end of the daemon waits for that, and the SDK's shutdown of metrics knows no
/// time limit. A thread that waits for a collector ends with the process.
async fn end<P: Send + 'static>(
    signal: Exported,
    export: Option<Export<P>>,
    bound: Duration,
    shut_down: impl FnOnce(P) + Send + 'static,
) -> Option<ExportError> {
    let Export { provider, count } = export?;
    let (ended, has_ended) = oneshot::channel();
    let work = move || {
        shut_down(provider);
        let _ = ended.send(());
    };
    if let Err(error) = thread::Builder::new().name("otel-shutdown".to_owned()).spawn(work) {
        return Some(ExportError::Thread(signal, error));
    }
    let is_slow = timeout(bound, has_ended).await.is_err();
    match count.lost() {
        lost if is_slow => Some(ExportError::Slow { signal, lost, bound }),
        0 => None,
        lost => Some(ExportError::Lost { signal, lost }),
    }
}

/// The resource that sends. What the user sets in `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` wins.
fn resource(settings: &ExportSettings, source: &ExportSource) -> Resource {
    let own = [
        KeyValue::new("service.name", "llama-warden"),
        KeyValue::new("service.version", source.version),
        KeyValue::new("service.instance.id", source.bus.snapshot().boot.to_string()),
    ];
    let resource = Resource::builder_empty()
        .with_attributes(own)
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_detector(Box::new(EnvResourceDetector::new()));
    match &settings.service_name {
        Some(name) => resource.with_service_name(name.clone()).build(),
        None => resource.build(),
    }
}
