//! Traces, metrics and log records of launches, for an OpenTelemetry collector.
//!
//! Spans and log records are written from events, many at a time; metrics are read from the snapshot when they are due, so they cost
//! nothing in between. Each signal is sent by OTLP over plain HTTP by a task of its own, with a bounded queue before it. What does not fit
//! or does not arrive is counted: one warning when a collector begins to fail, one line when it takes again, and the sum at the end.

mod collector;
mod commands;
mod context;
mod logs;
mod metrics;
mod queue;
mod recorder;
mod requests;
mod sampler;
mod settings;
mod span;
mod spans;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::Bus;
use llama_warden_otlp_wire::Wire;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use collector::{DeliveryCount, EncodedSource, SignalSender};
use logs::LogRecorder;
use queue::RecordQueue;
use settings::{BatchSettings, SignalSettings};
use span::Tracer;
use spans::SpanRecorder;

pub use collector::Exported;
pub use recorder::ExportRecorder;
pub use settings::{ExportSettings, VariableProblem};

/// The name under which everything is sent: the instrumentation scope.
const SCOPE: &str = "llama-warden";

/// Why something was not sent.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
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
    sampler: sampler::Sampler,
    traces: Option<Export<RecordQueue>>,
    metrics: Option<Export<oneshot::Sender<()>>>,
    logs: Option<Export<RecordQueue>>,
}

/// One signal that is exported.
#[derive(Debug)]
struct Export<E> {
    count: Arc<DeliveryCount>,
    task: JoinHandle<()>,
    /// Takes records, where they are not read from the snapshot, and tells the task that nothing follows.
    end: E,
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
    pub fn start(settings: &ExportSettings, source: &ExportSource) -> Self {
        let client = collector::client();
        let encoded = encoded_source(settings, source);
        let sender = |signal: &SignalSettings, exported| {
            let count = Arc::new(DeliveryCount::new(exported));
            (SignalSender::new(client.clone(), signal.clone(), count.clone(), encoded.clone()), count)
        };
        let records = |signal, exported, batches: BatchSettings| {
            let (sender, count) = sender(signal, exported);
            let queue = RecordQueue::new(batches, count.clone());
            Export { count, task: tokio::spawn(send_all(sender, queue.clone())), end: queue }
        };
        let numbers = |signal| {
            let (sender, count) = sender(signal, Exported::Metrics);
            let (end, ended) = oneshot::channel();
            let sending = metrics::send_all(sender, count.clone(), settings.metric_interval, source.bus.clone(), ended);
            Export { count, task: tokio::spawn(sending), end }
        };
        Self {
            sampler: settings.sampler,
            traces: settings.traces.as_ref().map(|signal| records(signal, Exported::Spans, settings.span_batches)),
            metrics: settings.metrics.as_ref().map(numbers),
            logs: settings.logs.as_ref().map(|signal| records(signal, Exported::Logs, settings.log_batches)),
        }
    }

    /// A recorder of what is sent.
    pub fn recorder(&self) -> ExportRecorder {
        let tracer = |traces: &Export<RecordQueue>| Tracer { sampler: self.sampler, queue: traces.end.clone() };
        ExportRecorder {
            spans: self.traces.as_ref().map(|traces| SpanRecorder::new(tracer(traces))),
            logs: self.logs.as_ref().map(|logs| LogRecorder { queue: logs.end.clone() }),
            waiting: Vec::new(),
        }
    }

    /// Sends what is left and reports what did not arrive. Takes at most `bound`, for all signals at once. Call it after all servers
    /// have ended, so that a collector that does not answer delays nothing else.
    pub async fn finish(self, bound: Duration) -> Vec<ExportError> {
        let Self { traces, metrics, logs, .. } = self;
        let ends = tokio::join!(
            end(Exported::Spans, traces, bound, |queue| queue.close()),
            // Dropped, it says the same.
            end(Exported::Metrics, metrics, bound, drop),
            end(Exported::Logs, logs, bound, |queue| queue.close()),
        );
        [ends.0, ends.1, ends.2].into_iter().flatten().collect()
    }
}

/// Sends what the queue holds until it is closed and empty.
async fn send_all(sender: SignalSender, queue: RecordQueue) {
    while let Some(batch) = queue.next().await {
        sender.send(&batch.wire, batch.records).await;
    }
}

/// Ends one signal. What its task still sends when the time is over is lost.
async fn end<E>(
    signal: Exported,
    export: Option<Export<E>>,
    bound: Duration,
    close: impl FnOnce(E),
) -> Option<ExportError> {
    let Export { count, mut task, end } = export?;
    close(end);
    let is_slow = timeout(bound, &mut task).await.is_err();
    task.abort();
    match count.lost() {
        lost if is_slow => Some(ExportError::Slow { signal, lost, bound }),
        0 => None,
        lost => Some(ExportError::Lost { signal, lost }),
    }
}

/// The resource that sends. What the user sets in `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` wins.
fn encoded_source(settings: &ExportSettings, source: &ExportSource) -> EncodedSource {
    let boot = source.bus.snapshot().boot.to_string();
    let own = [
        ("service.name", SCOPE),
        ("service.version", source.version),
        ("service.instance.id", &*boot),
        ("telemetry.sdk.name", SCOPE),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.version", source.version),
    ];
    let given = settings.resource.iter().map(|(key, value)| (&**key, &**value));
    let named = settings.service_name.iter().map(|name| ("service.name", &**name));
    // The last one of a name.
    let attributes: BTreeMap<&str, &str> = own.into_iter().chain(given).chain(named).collect();
    let (mut resource, mut scope) = (Wire::default(), Wire::default());
    resource.message(1, |resource| attributes.iter().for_each(|(key, value)| resource.attribute(1, key, *value)));
    scope.message(1, |scope| scope.text(1, SCOPE));
    EncodedSource { resource, scope }
}
