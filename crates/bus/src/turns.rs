//! Turns of work that may block, off the runtime's thread.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Pieces of work that go on at a time: each takes a thread and its memory.
const AT_ONCE: usize = 2;

/// Longest wait for a turn: the disk that holds up the others may not be its own.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps a component's blocking work to a few threads.
#[derive(Debug)]
pub struct Turns(Semaphore);

impl Turns {
    /// All turns are free.
    pub const fn new() -> Self {
        Self(Semaphore::const_new(AT_ONCE))
    }

    /// Waits for a turn, which lasts until it is dropped. Who has waited a second goes on without one, and is one more.
    pub async fn take(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        timeout(PATIENCE, self.0.acquire()).await.ok()?.ok()
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_waited_for_and_nobody_waits_for_ever() {
        let turns = Turns::new();
        let (first, second) = (turns.take().await, turns.take().await);
        assert!(first.is_some() && second.is_some());
        assert!(turns.take().await.is_none(), "goes on without one");
        drop(second);
        assert!(turns.take().await.is_some());
    }
}
