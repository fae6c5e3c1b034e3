//! What the facts of a daemon say about time.
//!
//! Between two facts it is the difference of their `elapsed`. Between a fact and something that this program saw it is a
//! difference of wall times, which are those of one machine.

use std::time::{Duration, SystemTime};

use serde_json::Value;

/// Whether a fact is of this kind.
pub fn is(fact: &Value, kind: &str) -> bool {
    fact["event"]["type"] == kind
}

/// The wall time of a fact.
pub fn at(fact: &Value) -> Option<SystemTime> {
    fact["at"].as_str()?.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

/// The time of a fact since the daemon's start, in whole microseconds as facts have it.
pub fn elapsed(fact: &Value) -> Option<Duration> {
    Some(Duration::from_micros((fact["elapsed"].as_f64()? * 1e6).round() as u64))
}

/// The fact with this number.
pub fn numbered<'a>(facts: &'a [Value], seq: &Value) -> Option<&'a Value> {
    facts.iter().find(|fact| fact["seq"] == *seq)
}

/// Milliseconds from the latest command's acceptance to its completion; `None` if it is not complete.
pub fn latest_command(facts: &[Value]) -> Option<f64> {
    let accepted = facts.iter().rev().find(|fact| is(fact, "CommandAccepted"))?;
    let completed = facts.iter().find(|fact| is(fact, "CommandCompleted") && fact["cause"] == accepted["seq"])?;
    Some((elapsed(completed)? - elapsed(accepted)?).as_secs_f64() * 1e3)
}

/// From one moment to another; negative if that is earlier.
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
    fn the_times_of_a_fact_are_read_to_the_microsecond() {
        let fact = json!({ "at": "1970-01-01T00:00:01.000250Z", "elapsed": 4.211903 });
        assert_eq!(at(&fact), Some(SystemTime::UNIX_EPOCH + Duration::from_micros(1_000_250)));
        assert_eq!(elapsed(&fact), Some(Duration::from_micros(4_211_903)));
    }

    #[test]
    fn the_latest_command_lasts_until_its_own_completion() {
        let fact = |seq, elapsed, cause: Value, kind| json!({ "seq": seq, "elapsed": elapsed, "cause": cause, "event": { "type": kind } });
        let mut facts = vec![
            fact(1, 1.0, Value::Null, "CommandAccepted"),
            fact(2, 2.0, Value::Null, "CommandAccepted"),
            fact(3, 2.5, json!(1), "CommandCompleted"),
        ];
        assert_eq!(latest_command(&facts), None);
        facts.push(fact(4, 3.25, json!(2), "CommandCompleted"));
        assert_eq!(latest_command(&facts), Some(1250.0));
    }
}
