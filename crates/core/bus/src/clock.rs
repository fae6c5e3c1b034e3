//! Time since the start of the daemon.

use llama_warden_events::Elapsed;
use tokio::time::Instant;

/// Tells the time since the start of the daemon. Follows tokio's clock, so that tests can hold it still.
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
    pub fn now(&self) -> Elapsed {
        Elapsed::new(self.origin.elapsed())
    }

    /// The instant at which the clock shows `elapsed`, for timers.
    pub fn instant(&self, elapsed: Elapsed) -> Instant {
        self.origin + elapsed.as_duration()
    }

    /// Waits until the clock shows `deadline`; for ever if there is none.
    pub async fn sleep_until(&self, deadline: Option<Elapsed>) {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(self.instant(deadline)).await,
            None => std::future::pending().await,
        }
    }
}
