//! Spans of each launch, for an OpenTelemetry collector.
//!
//! One trace per incarnation: `server start` with its steps `launch` and `load`, and later `server stop`. The recorder
//! builds them from events. The connection sends them by OTLP over plain HTTP from its own thread.

mod collector;
mod recorder;
mod settings;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use llama_warden_events::BootId;
use llama_warden_support::{BlockingError, blocking, try_thread};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::SdkTracerProvider;

pub use recorder::SpanRecorder;
pub use settings::TracingSettings;

/// Why spans cannot be sent, or were not.
#[derive(Debug, thiserror::Error)]
pub enum TracingError {
    /// A variable asks for what this build cannot do, or is not what it should be.
    #[error("{variable}=`{value}`: {problem}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// Its value, secrets masked.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The kernel gives no thread to export from.
    #[error("cannot start a thread for the export of spans")]
    Thread(#[source] io::Error),
    /// The exporter does not take its settings.
    #[error("cannot set up the export of spans")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    /// The collector refused or did not answer.
    #[error("{spans} spans did not reach the collector")]
    Lost {
        /// How many.
        spans: u64,
    },
    /// The last spans were not sent in time.
    #[error("the collector did not take the last spans within {} s", bound.as_secs_f64())]
    Slow {
        /// The time that it was given.
        bound: Duration,
    },
    /// The exporter ended before its time.
    #[error("the exporter of spans ended early")]
    Ended(#[source] OTelSdkError),
    /// The task that waits for the exporter ended before its time.
    #[error("the exporter of spans was not awaited")]
    Unawaited(#[source] BlockingError),
}

/// The connection to a collector. It must outlive the components, so that their last spans are sent. Close it with
/// [`finish`](Self::finish).
#[derive(Debug)]
pub struct Tracing {
    provider: SdkTracerProvider,
    lost: Arc<AtomicU64>,
}

impl Tracing {
    /// Starts sending. Must be called on a tokio runtime that lives until [`finish`](Self::finish) returns.
    ///
    /// # Errors
    /// The exporter does not take its settings, or the kernel gives no thread.
    pub fn start(settings: &TracingSettings, version: &str, boot: &BootId) -> Result<Self, TracingError> {
        let lost = Arc::<AtomicU64>::default();
        let exporter = collector::exporter(settings, lost.clone()).map_err(TracingError::Exporter)?;
        // The SDK panics without one.
        try_thread().map_err(TracingError::Thread)?;
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(settings, version, boot))
            .with_batch_exporter(exporter)
            .build();
        Ok(Self { provider, lost })
    }

    /// A recorder whose spans are sent.
    pub fn recorder(&self) -> SpanRecorder {
        SpanRecorder::new(self.provider.tracer("llama-warden"))
    }

    /// Sends the last spans and reports those that did not arrive. Takes at most `bound`. Call it after all servers have
    /// ended, so that a collector that does not answer delays nothing else.
    pub async fn finish(self, bound: Duration) -> Result<(), TracingError> {
        let provider = self.provider;
        let started = std::time::Instant::now();
        let shutdown = blocking(move || provider.shutdown_with_timeout(bound.saturating_sub(started.elapsed())));
        let ended = shutdown.await.map_err(TracingError::Unawaited)?;
        match (ended, self.lost.load(Ordering::Relaxed)) {
            // The exporter's thread goes on with its retries and ends with the process.
            (Err(_), _) if started.elapsed() >= bound => Err(TracingError::Slow { bound }),
            (Err(error), _) => Err(TracingError::Ended(error)),
            (Ok(()), 0) => Ok(()),
            (Ok(()), spans) => Err(TracingError::Lost { spans }),
        }
    }
}

/// The resource that sends the spans. What the user sets in `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` wins.
fn resource(settings: &TracingSettings, version: &str, boot: &BootId) -> Resource {
    let own = [
        KeyValue::new("service.name", "llama-warden"),
        KeyValue::new("service.version", version.to_owned()),
        KeyValue::new("service.instance.id", boot.to_string()),
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
