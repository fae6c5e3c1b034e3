//! The envelope: who, when and because of what, around a fact.

use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{BootId, Event, Incarnation, Seq, ServerId};

/// A fact with its place in the line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Envelope {
    /// Its number, gapless from 1 within one run of the daemon. Only the sequencer gives it out.
    pub seq: Seq,
    /// The run of the daemon.
    pub boot: BootId,
    /// Wall time, for people. Never subtracted: clocks jump.
    pub at: Timestamp,
    /// Time since the start of the daemon. Every duration comes from it.
    pub elapsed: Elapsed,
    /// The server that the fact is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerId>,
    /// The launch of that server that the fact is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// The fact that led here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Seq>,
    /// The fact itself.
    pub event: Event,
}

/// Wall time with microseconds, in UTC, as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub jiff::Timestamp);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0)
    }
}

impl Timestamp {
    /// Cuts a time to whole microseconds, so that a value survives being written and read.
    pub fn new(at: jiff::Timestamp) -> Self {
        Self(jiff::Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at))
    }

    /// Seconds since the Unix epoch, as Prometheus wants them.
    pub fn as_unix_seconds(self) -> f64 {
        self.0.as_microsecond() as f64 / 1e6
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        jiff::Timestamp::deserialize(deserializer).map(Self)
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// Time since the start of the daemon, to the microsecond; written as seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Elapsed(Duration);

impl Elapsed {
    /// Cuts `since_start` to whole microseconds, so that a value survives being written and read.
    pub const fn new(since_start: Duration) -> Self {
        Self(Duration::from_micros(since_start.as_micros() as u64))
    }

    /// The time as a duration.
    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// Time from `earlier` to this, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.0.as_secs_f64())
    }
}

impl Serialize for Elapsed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_micros() as f64 / 1e6)
    }
}

impl<'de> Deserialize<'de> for Elapsed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        let micros = (seconds * 1e6).round();
        if !(0.0..9e15).contains(&micros) {
            return Err(serde::de::Error::custom(format!("elapsed time {seconds} s is out of range")));
        }
        Ok(Self(Duration::from_micros(micros as u64)))
    }
}

impl JsonSchema for Elapsed {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Elapsed".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "number",
            "minimum": 0,
            "description": "Seconds since the start of the daemon.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_reads_as_documented_and_survives_the_round_trip() {
        let envelope = Envelope {
            seq: Seq(17),
            boot: BootId::from_random(0xabc),
            at: Timestamp("2026-11-22T13:05:01.123456Z".parse().expect("valid")),
            elapsed: Elapsed::new(Duration::from_nanos(4_211_903_999)),
            server: Some(ServerId::new("qwen3").expect("valid")),
            incarnation: Some(Incarnation(1)),
            cause: Some(Seq(12)),
            event: Event::ReadyReached { via: crate::ReadyVia::Stderr, startup_seconds: 4.2 },
        };
        let json = serde_json::to_string(&envelope).expect("serializes");
        assert_eq!(
            json,
            r#"{"seq":17,"boot":"0000000000000abc","at":"2026-11-22T13:05:01.123456Z","elapsed":4.211903,"server":"qwen3","incarnation":1,"cause":12,"event":{"type":"ReadyReached","via":"stderr","startup_seconds":4.2}}"#
        );
        assert_eq!(serde_json::from_str::<Envelope>(&json).expect("reads"), envelope);
    }
}
