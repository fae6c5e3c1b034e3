//! Which traces are recorded: the samplers of OpenTelemetry's specification, without the ones that ask a server.

use opentelemetry::trace::TraceId;

use super::context::SpanContext;

/// Decides once for each trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampler {
    /// Of all traces that begin here.
    ratio: f64,
    /// Whether a span with a parent is recorded as its parent is.
    follows_parents: bool,
}

impl Default for Sampler {
    fn default() -> Self {
        Self { ratio: 1.0, follows_parents: true }
    }
}

impl Sampler {
    /// The sampler of this name, with its argument where it takes one. `None` where there is none of that name.
    pub(super) fn named(name: &str, ratio: Option<f64>) -> Option<Self> {
        let (follows_parents, root) = match name.strip_prefix("parentbased_") {
            Some(root) => (true, root),
            None => (false, name),
        };
        let ratio = match root {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => ratio.unwrap_or(1.0),
            _ => return None,
        };
        Some(Self { ratio, follows_parents })
    }

    /// Whether the spans of a trace are recorded that begins here, or goes on below `parent`.
    pub(super) fn samples(self, trace: TraceId, parent: Option<SpanContext>) -> bool {
        match parent {
            // A span of ours has been asked for already.
            Some(parent) if self.follows_parents || !parent.is_remote => parent.flags.is_sampled(),
            // The lower half of an id is random. All who take the same share of traces take the same ones.
            _ => {
                let [.., a, b, c, d, e, f, g, h] = trace.to_bytes();
                let drawn = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1;
                self.ratio >= 1.0 || (drawn as f64) < self.ratio * (1_u64 << 63) as f64
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceFlags};

    use super::*;

    #[test]
    fn a_share_of_traces_is_recorded_and_always_the_same_ones() {
        let sampler = Sampler::named("traceidratio", Some(0.25)).expect("exists");
        let sampled: Vec<u128> = (0..1024).filter(|trace| sampler.samples(TraceId::from(*trace << 54), None)).collect();
        assert_eq!(sampled, (0..256).collect::<Vec<_>>());
        for (name, expected) in [("always_on", 1024), ("always_off", 0), ("parentbased_always_off", 0)] {
            let sampler = Sampler::named(name, None).expect("exists");
            assert_eq!(
                (0..1024_u128).filter(|trace| sampler.samples(TraceId::from(*trace << 54), None)).count(),
                expected,
                "{name}"
            );
        }
        assert_eq!(Sampler::named("sometimes", None), None);
    }

    #[test]
    fn a_span_below_one_of_others_is_recorded_as_that_is_or_as_the_sampler_says() {
        let (trace, span) = (TraceId::from(1), SpanId::from(1));
        let parent = |flags| Some(SpanContext { trace, span, flags: TraceFlags::new(flags), is_remote: true });
        let samples = |name, flags| Sampler::named(name, None).map(|sampler| sampler.samples(trace, parent(flags)));
        assert_eq!([0, 1].map(|flags| samples("parentbased_always_on", flags)), [Some(false), Some(true)]);
        assert_eq!([0, 1].map(|flags| samples("parentbased_always_off", flags)), [Some(false), Some(true)]);
        assert_eq!([0, 1].map(|flags| samples("always_on", flags)), [Some(true); 2]);
        assert_eq!([0, 1].map(|flags| samples("always_off", flags)), [Some(false); 2]);
    }
}
