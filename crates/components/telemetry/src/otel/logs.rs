//! Log records of events, each with the trace of its launch.
//!
//! The event's name is its kind, as in `docs/events.md`; the body is what the log says about it. Events of level debug are left out.

use std::time::SystemTime;

use llama_warden_events::{Envelope, ServerId};
use opentelemetry::logs::Severity;
use tracing::Level;

use super::context::SpanContext;
use super::queue::RecordQueue;
use crate::sentence::{Sentence, notable_sentence};

/// The field of a record in `ScopeLogs`.
const RECORD: u32 = 2;
const ATTRIBUTES: u32 = 6;

/// Records events as log records.
#[derive(Debug)]
pub(super) struct LogRecorder {
    pub(super) queue: RecordQueue,
}

impl LogRecorder {
    pub(super) fn record(&self, envelope: &Envelope, context: Option<SpanContext>) {
        let Some(Sentence { level, text }) = notable_sentence(envelope) else { return };
        let severity = match level {
            Level::ERROR => Severity::Error,
            Level::WARN => Severity::Warn,
            _ => Severity::Info,
        };
        let at = SystemTime::from(envelope.at);
        self.queue.push(|batch| {
            batch.message(RECORD, |record| {
                record.time(1, at);
                record.varint(2, severity as u64);
                record.text(3, severity.name());
                record.message(5, |body| body.text(1, &text));
                record.attribute(ATTRIBUTES, "llama_warden.seq", envelope.seq.get());
                if let Some(server) = &envelope.server {
                    record.attribute(ATTRIBUTES, "llama_warden.server.id", ServerId::as_str(server));
                }
                if let Some(incarnation) = envelope.incarnation {
                    record.attribute(ATTRIBUTES, "llama_warden.server.incarnation", incarnation.get());
                }
                if let Some(context) = context {
                    record.fixed_32(8, context.flags.to_u8().into());
                    record.bytes(9, &context.trace.to_bytes());
                    record.bytes(10, &context.span.to_bytes());
                }
                // The event is seen where it happens.
                record.time(11, at);
                record.text(12, envelope.event.kind());
            });
        });
    }
}
