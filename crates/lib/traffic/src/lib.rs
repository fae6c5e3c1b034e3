//! Counts the requests through the router, and queues the finished ones for logs and spans.
//!
//! A request is no event: a thousand a second would push everything else out of the ring of events. It is counted in atomics, which
//! the metrics page reads, and a finished one goes into a bounded queue, which telemetry reads. What does not fit there is counted as
//! lost, and no request waits for it.
//!
//! * [`RouterTraffic`] has the counters, those of each server in its [`ServerTraffic`].
//! * [`TrackedRequest`] is one request, from its head to its last byte; [`TrackedBody`] looks at the answer as it passes.
//! * [`FinishedRequest`] is what is known of it at its end.

mod answer_ends;
mod counters;
mod finished;
mod tracked;
mod words;

pub use answer_ends::{AnswerFacts, TokenUse};
pub use counters::{Counted, RouterTraffic, ServerTraffic, TimeCounts, WaitGuard};
pub use finished::{FinishedRequest, FinishedRequests};
pub use tracked::{TrackedBody, TrackedHead, TrackedRequest};
pub use words::{ConnectionSide, EvictedFor, RequestOutcome, RetryCause, TokenKind, TrafficRoute, WaitedFor};
