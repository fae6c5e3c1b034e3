//! The two times of an event: the date, for people, and the time since the daemon started, for every duration.

use std::fmt;
use std::ops::Add;
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Wall time with microseconds, in UTC, as RFC 3339.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Since the Unix epoch, of a time that jiff knows.
    microseconds: i64,
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(6);
        write!(f, "{:.digits$}", self.as_jiff())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Timestamp {
    /// Cuts a time to whole microseconds, so that a value survives being written and read.
    pub fn new(at: jiff::Timestamp) -> Self {
        Self { microseconds: at.as_microsecond() }
    }

    /// The time that is this many microseconds after the Unix epoch; the epoch if jiff knows no such time.
    pub fn from_unix_microseconds(microseconds: i64) -> Self {
        Self::new(jiff::Timestamp::from_microsecond(microseconds).unwrap_or_default())
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_unix_microseconds(self) -> i64 {
        self.microseconds
    }

    fn as_jiff(self) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(self.microseconds).unwrap_or_default()
    }

    /// Seconds since the Unix epoch, as Prometheus wants them.
    pub const fn as_unix_seconds(self) -> f64 {
        self.microseconds as f64 / 1e6
    }

    /// The time that is this much earlier.
    #[must_use]
    pub fn before(self, earlier: Duration) -> Self {
        let microseconds = i64::try_from(earlier.as_micros()).unwrap_or(i64::MAX);
        Self { microseconds: self.microseconds.saturating_sub(microseconds) }
    }
}

impl From<Timestamp> for SystemTime {
    fn from(at: Timestamp) -> Self {
        at.as_jiff().into()
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        jiff::Timestamp::deserialize(deserializer).map(Self::new)
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
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uptime {
    microseconds: u64,
}

impl Uptime {
    /// Cuts `since_start` to whole microseconds, so that a value survives being written and read.
    pub const fn new(since_start: Duration) -> Self {
        Self { microseconds: since_start.as_micros() as u64 }
    }

    /// The time as a duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_micros(self.microseconds)
    }

    /// Time from `earlier` to this, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.microseconds.saturating_sub(earlier.microseconds))
    }
}

/// A sum beyond the largest time is the largest time, so that a deadline of an absurd delay never comes.
impl Add<Duration> for Uptime {
    type Output = Self;

    fn add(self, delay: Duration) -> Self {
        let delay = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        Self { microseconds: self.microseconds.saturating_add(delay) }
    }
}

impl fmt::Display for Uptime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}", self.as_duration().as_secs_f64())
    }
}

impl fmt::Debug for Uptime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_duration(), f)
    }
}

impl Serialize for Uptime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.microseconds as f64 / 1e6)
    }
}

impl<'de> Deserialize<'de> for Uptime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        let microseconds = (seconds * 1e6).round();
        if !(0.0..9e15).contains(&microseconds) {
            return Err(serde::de::Error::custom(format!("elapsed time {seconds} s is out of range")));
        }
        Ok(Self { microseconds: microseconds as u64 })
    }
}

impl JsonSchema for Uptime {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Uptime".into()
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
    fn a_delay_is_added_to_a_time_and_the_sum_never_wraps() {
        let start = Uptime::new(Duration::from_secs(2));
        assert_eq!((start + Duration::from_nanos(1_500_999)).as_duration(), Duration::from_micros(2_001_500));
        assert_eq!(start + Duration::MAX, Uptime { microseconds: u64::MAX });
    }
}
