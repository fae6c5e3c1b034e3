//! A span while it is open.

use std::time::SystemTime;

use llama_warden_otlp_wire::{AttributeValue, Wire};
use opentelemetry::trace::{SpanId, SpanKind, TraceFlags, TraceId};

use super::context::SpanContext;
use super::queue::RecordQueue;
use super::sampler::Sampler;

/// Most events and most links of a span, as OpenTelemetry's specification limits them; more are counted.
const MOST: u32 = 128;

/// Says that the flags tell whether the parent is of another process.
const KNOWS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// The field of a span in `ScopeSpans`.
const SPAN: u32 = 2;

/// The attribute of a span whose end was not seen.
pub(super) const INCOMPLETE: &str = "llama_warden.incomplete";

/// Begins and ends spans.
#[derive(Debug, Clone)]
pub(super) struct Tracer {
    pub(super) sampler: Sampler,
    pub(super) queue: RecordQueue,
}

impl Tracer {
    /// Begins a trace of this id.
    pub(super) fn root(&self, trace: TraceId, name: &str, kind: SpanKind, at: SystemTime) -> OpenSpan {
        let sampled = self.sampler.samples(trace, None);
        OpenSpan::begin(trace, sampled, None, name, kind, at)
    }

    /// Begins a span in the trace of another.
    pub(super) fn child(&self, parent: SpanContext, name: &str, kind: SpanKind, at: SystemTime) -> OpenSpan {
        let sampled = self.sampler.samples(parent.trace, Some(parent));
        OpenSpan::begin(parent.trace, sampled, Some(parent), name, kind, at)
    }

    /// Ends a span, which is sent if its trace is recorded.
    pub(super) fn end(&self, span: OpenSpan, at: SystemTime) {
        if span.context.flags.is_sampled() {
            self.queue.push(|batch| batch.message(SPAN, |wire| span.write(wire, at)));
        }
    }
}

/// A span that has not ended. What is known of it is written already.
#[derive(Debug)]
pub(super) struct OpenSpan {
    context: SpanContext,
    wire: Wire,
    error: Option<String>,
    events: u32,
    links: u32,
}

impl OpenSpan {
    fn begin(
        trace: TraceId,
        is_sampled: bool,
        parent: Option<SpanContext>,
        name: &str,
        kind: SpanKind,
        at: SystemTime,
    ) -> Self {
        let (span, flags) = (SpanId::from(fastrand::u64(1..)), TraceFlags::default().with_sampled(is_sampled));
        let context = SpanContext { trace, span, flags, is_remote: false };
        let mut wire = Wire::default();
        if is_sampled {
            wire.bytes(1, &trace.to_bytes());
            wire.bytes(2, &context.span.to_bytes());
            if let Some(parent) = parent {
                wire.bytes(4, &parent.span.to_bytes());
            }
            wire.text(5, name);
            wire.varint(6, number(&kind));
            wire.time(7, at);
            wire.fixed_32(16, wire_flags(context, parent.is_some_and(|parent| parent.is_remote)));
        }
        Self { context, wire, error: None, events: 0, links: 0 }
    }

    pub(super) const fn context(&self) -> SpanContext {
        self.context
    }

    pub(super) fn describe<'a>(&mut self, key: &str, value: impl Into<AttributeValue<'a>>) {
        if self.context.flags.is_sampled() {
            self.wire.attribute(9, key, value);
        }
    }

    pub(super) fn describe_by_texts<'a>(&mut self, key: &str, texts: impl Iterator<Item = &'a str>) {
        if self.context.flags.is_sampled() {
            self.wire.texts(9, key, texts);
        }
    }

    /// Adds an event; `describe` writes its attributes, in field 3.
    pub(super) fn event(&mut self, name: &str, at: SystemTime, describe: impl FnOnce(&mut Wire)) {
        self.events += 1;
        if self.context.flags.is_sampled() && self.events <= MOST {
            self.wire.message(11, |event| {
                event.time(1, at);
                event.text(2, name);
                describe(event);
            });
        }
    }

    pub(super) fn link(&mut self, to: SpanContext) {
        self.links += 1;
        if self.context.flags.is_sampled() && self.links <= MOST {
            self.wire.message(13, |link| {
                link.bytes(1, &to.trace.to_bytes());
                link.bytes(2, &to.span.to_bytes());
                link.fixed_32(6, wire_flags(to, to.is_remote));
            });
        }
    }

    /// What it is for has failed.
    pub(super) fn fail(&mut self, why: impl Into<String>) {
        self.error = Some(why.into());
    }

    fn write(&self, wire: &mut Wire, end: SystemTime) {
        wire.append(&self.wire);
        wire.time(8, end);
        for (field, number) in [(12, self.events), (14, self.links)] {
            if number > MOST {
                wire.varint(field, u64::from(number - MOST));
            }
        }
        if let Some(error) = &self.error {
            wire.message(15, |status| {
                status.text(2, error);
                status.varint(3, 2);
            });
        }
    }
}

fn wire_flags(context: SpanContext, is_remote: bool) -> u32 {
    u32::from(context.flags.to_u8()) | KNOWS_REMOTE | if is_remote { IS_REMOTE } else { 0 }
}

/// The kind as the protocol numbers it.
const fn number(kind: &SpanKind) -> u64 {
    match kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    }
}
