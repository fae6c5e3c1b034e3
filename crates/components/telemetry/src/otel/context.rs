//! Who a span is, for what belongs to it.

use llama_warden_events::TraceParent;
use opentelemetry::trace::{SpanId, TraceFlags, TraceId};

/// Who a span is. It has no `tracestate`, which we pass on nowhere, so that it is copied for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpanContext {
    pub(super) trace: TraceId,
    pub(super) span: SpanId,
    pub(super) flags: TraceFlags,
    /// Whether it is a span of another process.
    pub(super) is_remote: bool,
}

impl From<TraceParent> for SpanContext {
    fn from(parent: TraceParent) -> Self {
        Self {
            trace: TraceId::from(parent.trace_id()),
            span: SpanId::from(parent.span_id()),
            flags: TraceFlags::new(parent.flags()),
            is_remote: true,
        }
    }
}
