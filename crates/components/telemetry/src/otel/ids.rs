//! The ids of traces: random, but for the trace of a launch, whose id others know too.

use std::sync::{Arc, Mutex};

use llama_warden_events::LaunchTraceId;
use llama_warden_support::lock;
use opentelemetry::trace::{SpanId, TraceId};
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

/// Gives the next new trace the id of a launch, where one was set. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct LaunchIds {
    next: Arc<Mutex<Option<LaunchTraceId>>>,
}

impl LaunchIds {
    /// The next trace that begins has this id. There is one recorder, so nothing comes in between.
    pub(super) fn set_next(&self, id: LaunchTraceId) {
        *lock(&self.next) = Some(id);
    }
}

impl IdGenerator for LaunchIds {
    fn new_trace_id(&self) -> TraceId {
        let next = lock(&self.next).take();
        next.map_or_else(|| RandomIdGenerator::default().new_trace_id(), |id| TraceId::from(id.as_number()))
    }

    fn new_span_id(&self) -> SpanId {
        RandomIdGenerator::default().new_span_id()
    }
}
