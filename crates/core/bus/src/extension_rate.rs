//! How fast one component publishes events of its own, so that one in a loop is cut off before it buries everybody else's events.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::lock::lock;

/// More than anybody reads, and many times what the ring keeps; a loop without a pause gets there within a second on any machine.
pub const MAX_EXTENSION_EVENTS_PER_SECOND: u32 = 10_000;

/// Counts the extension events of one component, second by second.
#[derive(Debug)]
pub(crate) struct ExtensionRate {
    second: Mutex<CountedSecond>,
    exceeded: CancellationToken,
}

#[derive(Debug)]
struct CountedSecond {
    began: Instant,
    events: u32,
}

impl ExtensionRate {
    pub(crate) fn new() -> Self {
        let second = CountedSecond { began: Instant::now(), events: 0 };
        Self { second: Mutex::new(second), exceeded: CancellationToken::new() }
    }

    /// Counts an event. Returns whether it may be published: none may any more once there were too many.
    pub(crate) fn admits(&self) -> bool {
        let mut second = lock(&self.second);
        let now = Instant::now();
        if now.duration_since(second.began) >= Duration::from_secs(1) {
            *second = CountedSecond { began: now, events: 0 };
        }
        second.events = second.events.saturating_add(1);
        if second.events > MAX_EXTENSION_EVENTS_PER_SECOND {
            self.exceeded.cancel();
        }
        !self.is_exceeded()
    }

    pub(crate) fn is_exceeded(&self) -> bool {
        self.exceeded.is_cancelled()
    }

    /// Ends once there were too many.
    pub(crate) async fn exceeded(&self) {
        self.exceeded.cancelled().await;
    }
}
