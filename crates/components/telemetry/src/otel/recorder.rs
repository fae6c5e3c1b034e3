//! Hands each event to what is exported.

use llama_warden_events::Envelope;
use llama_warden_traffic::FinishedRequest;

use super::logs::LogRecorder;
use super::metrics::MetricRecorder;
use super::spans::SpanRecorder;

/// Records events for whatever is exported.
#[derive(Debug)]
pub struct ExportRecorder {
    pub(super) spans: Option<SpanRecorder>,
    pub(super) metrics: Option<MetricRecorder>,
    pub(super) logs: Option<LogRecorder>,
}

impl ExportRecorder {
    /// Records an event.
    pub(crate) fn record(&mut self, envelope: &Envelope) {
        // Read before and after: the last event of a span belongs to it, as its first does.
        let before = self.spans.as_ref().and_then(|spans| spans.context_of(envelope));
        if let Some(spans) = &mut self.spans {
            spans.record(envelope);
        }
        if let Some(metrics) = &self.metrics {
            metrics.record(envelope);
        }
        if let Some(logs) = &self.logs {
            let after = self.spans.as_ref().and_then(|spans| spans.context_of(envelope));
            logs.record(envelope, after.or(before));
        }
    }

    /// Records a request that has ended.
    pub(crate) fn record_request(&self, request: &FinishedRequest) {
        if let Some(spans) = &self.spans {
            spans.record_request(request);
        }
    }

    /// Events were missed: spans that they would have ended are ended as incomplete.
    pub(crate) fn abandon(&mut self) {
        if let Some(spans) = &mut self.spans {
            spans.abandon();
        }
    }
}
