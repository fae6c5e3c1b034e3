//! Hands events to what is exported.

use std::sync::Arc;

use llama_warden_events::Envelope;
use llama_warden_traffic::FinishedRequest;

use super::logs::LogRecorder;
use super::spans::SpanRecorder;

/// Most events that wait to be recorded.
const MOST: usize = 256;

/// Records events for whatever is exported.
///
/// Events wait until there are many, or somebody catches up: code that runs once for each event among all that an event sets off has to be
/// fetched into the processor's caches each time, which takes longer than the code itself.
#[derive(Debug)]
pub struct ExportRecorder {
    pub(super) spans: Option<SpanRecorder>,
    pub(super) logs: Option<LogRecorder>,
    pub(super) waiting: Vec<Arc<Envelope>>,
}

impl ExportRecorder {
    /// Takes an event.
    pub(crate) fn take(&mut self, envelope: &Arc<Envelope>) {
        self.waiting.push(envelope.clone());
        if self.waiting.len() >= MOST {
            self.catch_up();
        }
    }

    /// Whether events wait.
    pub(crate) const fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Records the events that wait.
    pub(crate) fn catch_up(&mut self) {
        for envelope in std::mem::take(&mut self.waiting) {
            self.record(&envelope);
        }
    }

    fn record(&mut self, envelope: &Envelope) {
        // Read before and after: the last event of a span belongs to it, as its first does.
        let before = self.spans.as_ref().and_then(|spans| spans.context_of(envelope));
        if let Some(spans) = &mut self.spans {
            spans.record(envelope);
        }
        if let Some(logs) = &self.logs {
            let after = self.spans.as_ref().and_then(|spans| spans.context_of(envelope));
            logs.record(envelope, after.or(before));
        }
    }

    /// Records a request that has ended.
    pub(crate) fn record_request(&mut self, request: &FinishedRequest) {
        // It has a link to the launch that it waited for.
        self.catch_up();
        if let Some(spans) = &self.spans {
            spans.record_request(request);
        }
    }

    /// Events were missed: spans that they would have ended are ended as incomplete.
    pub(crate) fn abandon(&mut self) {
        self.catch_up();
        if let Some(spans) = &mut self.spans {
            spans.abandon();
        }
    }
}

impl Drop for ExportRecorder {
    fn drop(&mut self) {
        self.abandon();
    }
}
