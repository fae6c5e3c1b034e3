//! Log records of events, each with the trace of its launch.
//!
//! The event's name is its kind, as in `docs/events.md`; the body is what the log says about it. Events of level debug are left out.

use std::sync::Arc;
use std::time::SystemTime;

use llama_warden_events::Envelope;
use opentelemetry::StringValue;
use opentelemetry::logs::{AnyValue, LogRecord, Logger, LoggerProvider, Severity};
use opentelemetry::trace::SpanContext;
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::{BatchConfigBuilder, BatchLogProcessor, SdkLogger, SdkLoggerProvider};
use tracing::Level;

use super::collector::{self, DeliveryCount, Exported};
use super::settings::{BatchSettings, SignalSettings};
use super::{Export, SCOPE, count};
use crate::sentence::{Sentence, notable_sentence};

/// Records events as log records.
#[derive(Debug)]
pub(super) struct LogRecorder {
    logger: SdkLogger,
    count: Arc<DeliveryCount>,
}

pub(super) fn export(
    signal: &SignalSettings,
    batches: BatchSettings,
    resource: Resource,
) -> Result<Export<SdkLoggerProvider>, ExporterBuildError> {
    let count = Arc::new(DeliveryCount::new(Exported::Logs));
    let exporter = collector::log_exporter(signal, count.clone())?;
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(batches.queue)
        .with_max_export_batch_size(batches.batch)
        .with_scheduled_delay(batches.delay)
        .build();
    let processor = BatchLogProcessor::builder(exporter).with_batch_config(config).build();
    let provider = SdkLoggerProvider::builder().with_resource(resource).with_log_processor(processor).build();
    Ok(Export { provider, count })
}

pub(super) fn recorder(provider: &SdkLoggerProvider, count: &Arc<DeliveryCount>) -> LogRecorder {
    LogRecorder { logger: provider.logger(SCOPE), count: count.clone() }
}

impl LogRecorder {
    pub(super) fn record(&self, envelope: &Envelope, context: Option<SpanContext>) {
        let Some(Sentence { level, text }) = notable_sentence(envelope) else { return };
        let (severity, name) = match level {
            Level::ERROR => (Severity::Error, "ERROR"),
            Level::WARN => (Severity::Warn, "WARN"),
            _ => (Severity::Info, "INFO"),
        };
        let mut record = self.logger.create_log_record();
        record.set_event_name(envelope.event.kind());
        record.set_timestamp(SystemTime::from(envelope.at));
        record.set_severity_number(severity);
        record.set_severity_text(name);
        // Shared texts: the queue gets a copy of the record.
        record.set_body(AnyValue::String(StringValue::from(Arc::<str>::from(text))));
        record.add_attribute("llama_warden.seq", count(envelope.seq.get()));
        if let Some(server) = &envelope.server {
            record.add_attribute("llama_warden.server.id", AnyValue::String(StringValue::from(server.shared())));
        }
        if let Some(incarnation) = envelope.incarnation {
            record.add_attribute("llama_warden.server.incarnation", count(incarnation.get()));
        }
        if let Some(context) = context {
            record.set_trace_context(context.trace_id(), context.span_id(), Some(context.trace_flags()));
        }
        self.count.take(1);
        self.logger.emit(record);
    }
}
