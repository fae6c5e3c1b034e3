//! The trace that a command comes from, and the trace of a launch.
//!
//! A caller names its trace in the header `traceparent` (W3C Trace Context). The trace of a launch has an id that follows from run,
//! server and launch: whoever knows these, the metrics page for one, can name it without asking the exporter of spans.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BootId, Incarnation, ServerId};

/// The span of a caller, as in the header `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TraceParent {
    trace_id: u128,
    span_id: u64,
    flags: u8,
}

/// A text is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a traceparent: 00, trace id, span id and flags in lower-case hexadecimal digits")]
pub struct InvalidTraceParent;

impl TraceParent {
    /// The id of the caller's trace; never 0.
    pub const fn trace_id(self) -> u128 {
        self.trace_id
    }

    /// The id of the caller's span; never 0.
    pub const fn span_id(self) -> u64 {
        self.span_id
    }

    /// The flags; bit 0 says that the caller records its trace.
    pub const fn flags(self) -> u8 {
        self.flags
    }
}

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    /// Takes a later version of the header too, which may have more fields behind the flags, as the specification asks.
    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let mut fields = text.trim().split('-');
        let mut digits = |length| {
            let field: &str = fields.next().ok_or(InvalidTraceParent)?;
            let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            let is_whole = field.len() == length && field.bytes().all(is_hex);
            is_whole.then(|| u128::from_str_radix(field, 16).ok()).flatten().ok_or(InvalidTraceParent)
        };
        let (version, trace_id, span_id, flags) = (digits(2)?, digits(32)?, digits(16)?, digits(2)?);
        let has_more = fields.next().is_some();
        if version == 0xff || (version == 0 && has_more) || trace_id == 0 || span_id == 0 {
            return Err(InvalidTraceParent);
        }
        // The lengths are checked.
        Ok(Self { trace_id, span_id: span_id as u64, flags: flags as u8 })
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl From<TraceParent> for String {
    fn from(parent: TraceParent) -> Self {
        parent.to_string()
    }
}

impl TryFrom<String> for TraceParent {
    type Error = InvalidTraceParent;

    fn try_from(text: String) -> Result<Self, InvalidTraceParent> {
        text.parse()
    }
}

impl JsonSchema for TraceParent {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "TraceParent".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$" })
    }
}

/// The id of the trace of a launch, written as 32 hexadecimal digits; never 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaunchTraceId(u128);

impl LaunchTraceId {
    /// The id of the trace of this launch. The first half is the run of the daemon, which is random.
    pub fn of(boot: &BootId, server: &ServerId, incarnation: Incarnation) -> Self {
        const PRIME: u64 = 0x0100_0000_01b3;
        let boot = boot.as_number();
        let bytes =
            boot.to_le_bytes().into_iter().chain(server.as_str().bytes()).chain(incarnation.get().to_le_bytes());
        // FNV-1a: samplers take the second half as evenly spread.
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
        Self(u128::from(boot) << 64 | u128::from(hash | 1))
    }

    /// The id as a number.
    pub const fn as_number(self) -> u128 {
        self.0
    }
}

impl fmt::Display for LaunchTraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_and_written_as_it_came() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent: TraceParent = text.parse().expect("valid");
        assert_eq!((parent.span_id(), parent.flags(), parent.to_string()), (0x00f0_67aa_0ba9_02b7, 1, text.into()));
        let later = text.replacen("00", "01", 1) + "-more";
        assert_eq!(later.parse(), Ok(parent));
        assert_eq!(serde_json::to_value(parent).expect("serializes"), text);
    }

    #[test]
    fn what_is_no_traceparent_is_refused() {
        for text in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(text.parse::<TraceParent>(), Err(InvalidTraceParent), "{text}");
        }
    }

    #[test]
    fn each_launch_has_a_trace_of_its_own() {
        let ids = [(7, "a", 1), (7, "a", 2), (7, "b", 1), (8, "a", 1)].map(|(boot, server, launch)| {
            let server = ServerId::new(server).expect("valid");
            LaunchTraceId::of(&BootId::from_random(boot), &server, Incarnation::new(launch))
        });
        let different: std::collections::HashSet<_> = ids.into_iter().collect();
        assert_eq!(different.len(), ids.len());
        assert!(ids[0].to_string().starts_with("0000000000000007"));
    }
}
