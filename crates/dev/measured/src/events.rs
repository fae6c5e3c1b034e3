//! Computes durations from the events of a daemon.
//!
//! The duration between two events is the difference of their `elapsed`. Between an event and an observation of this program
//! it is a difference of wall times, which come from the clock of one machine.

use std::time::{Duration, SystemTime};

use serde_json::Value;

/// Whether `event` is of type `kind`.
pub fn is(event: &Value, kind: &str) -> bool {
    event["event"]["type"] == kind
}

/// The wall time of an event; `None` if it has none.
pub fn at(event: &Value) -> Option<SystemTime> {
    event["at"].as_str()?.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

/// The time of an event since the start of the daemon, in the whole microseconds that events are written with.
pub fn elapsed(event: &Value) -> Option<Duration> {
    Some(Duration::from_micros((event["elapsed"].as_f64()? * 1e6).round() as u64))
}

/// The event with the sequence number `seq`.
pub fn numbered<'a>(events: &'a [Value], seq: &Value) -> Option<&'a Value> {
    events.iter().find(|event| event["seq"] == *seq)
}

/// Milliseconds from the acceptance of the latest command to its completion; `None` if it is not complete.
pub fn latest_command(events: &[Value]) -> Option<f64> {
    let accepted = events.iter().rev().find(|event| is(event, "CommandAccepted"))?;
    let completed = events.iter().find(|event| is(event, "CommandCompleted") && event["cause"] == accepted["seq"])?;
    Some((elapsed(completed)? - elapsed(accepted)?).as_secs_f64() * 1e3)
}

/// Milliseconds between two wall times; negative if `to` is earlier.
pub fn milliseconds(from: SystemTime, to: SystemTime) -> f64 {
    match to.duration_since(from) {
        Ok(later) => later.as_secs_f64() * 1e3,
        Err(earlier) => earlier.duration().as_secs_f64() * -1e3,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_times_of_an_event_are_read_to_the_microsecond() {
        let event = json!({ "at": "1970-01-01T00:00:01.000250Z", "elapsed": 4.211903 });
        assert_eq!(at(&event), Some(SystemTime::UNIX_EPOCH + Duration::from_micros(1_000_250)));
        assert_eq!(elapsed(&event), Some(Duration::from_micros(4_211_903)));
    }

    #[test]
    fn the_latest_command_lasts_until_its_own_completion() {
        let event = |seq, elapsed, cause: Value, kind| json!({ "seq": seq, "elapsed": elapsed, "cause": cause, "event": { "type": kind } });
        let mut events = vec![
            event(1, 1.0, Value::Null, "CommandAccepted"),
            event(2, 2.0, Value::Null, "CommandAccepted"),
            event(3, 2.5, json!(1), "CommandCompleted"),
        ];
        assert_eq!(latest_command(&events), None);
        events.push(event(4, 3.25, json!(2), "CommandCompleted"));
        assert_eq!(latest_command(&events), Some(1250.0));
    }
}
