//! Time since the start of the daemon, and the time of day.

use llama_warden_events::{Timestamp, Uptime};
use tokio::time::Instant;

/// The time of day, which people compare with other logs. Never subtracted: it jumps when the machine's clock is set.
pub fn wall_time() -> Timestamp {
    Timestamp::new(jiff::Timestamp::now())
}

/// Measures the time since the start of the daemon. It follows tokio's clock, so tests can pause it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Time since the start.
    pub fn now(&self) -> Uptime {
        Uptime::new(self.origin.elapsed())
    }

    /// The instant at which the clock shows `elapsed`, for timers.
    pub fn instant(&self, elapsed: Uptime) -> Instant {
        self.origin + elapsed.as_duration()
    }

    /// Waits until the clock shows `deadline`; for ever if there is none. A deadline that has passed needs no timer, whose
    /// steps are a millisecond.
    pub async fn sleep_until(&self, deadline: Option<Uptime>) {
        match deadline {
            Some(deadline) if deadline <= self.now() => {}
            Some(deadline) => tokio::time::sleep_until(self.instant(deadline)).await,
            None => std::future::pending().await,
        }
    }
}
