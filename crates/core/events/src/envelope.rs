//! The envelope of an event: its number, times, server, launch and cause.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BootId, Event, Incarnation, Seq, ServerId, Timestamp, Uptime};

/// An event with its number, times, server, launch and cause.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Envelope {
    /// Its number, gapless from 1 within one run of the daemon. Only the sequencer assigns it.
    pub seq: Seq,
    /// The run of the daemon.
    pub boot: BootId,
    /// Wall time, for people. Never subtracted: clocks jump.
    pub at: Timestamp,
    /// Time since the start of the daemon. Every duration comes from it.
    pub elapsed: Uptime,
    /// The server that the event is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerId>,
    /// The launch of that server that the event is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// The event or command that led to this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Seq>,
    /// The event itself.
    pub event: Event,
}

/// The ring keeps thousands of envelopes, some thirteen of them for each server that has started.
const _: () = assert!(size_of::<Envelope>() <= 136);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_envelope_reads_as_documented_and_survives_the_round_trip() {
        let envelope = Envelope {
            seq: Seq::new(17),
            boot: BootId::from_random(0xabc),
            at: Timestamp::new("2026-11-22T13:05:01.123456Z".parse().expect("valid")),
            elapsed: Uptime::new(Duration::from_nanos(4_211_903_999)),
            server: Some(ServerId::new("qwen3").expect("valid")),
            incarnation: Some(Incarnation::new(1)),
            cause: Some(Seq::new(12)),
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
