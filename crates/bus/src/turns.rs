//! Turns of work that may block, off the runtime's thread.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// Pieces of work that go on at a time: each takes a thread and its memory.
const AT_ONCE: usize = 2;

/// Longest time in which no turn ends before others go on: the disk that holds these up may not be theirs.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps a component's blocking work to a few threads.
#[derive(Debug)]
pub struct Turns {
    free: Semaphore,
    /// How many have ended so far.
    ended: AtomicUsize,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub struct Turn<'a> {
    turns: &'a Turns,
    _permit: Option<SemaphorePermit<'a>>,
}

impl Turns {
    /// All turns are free.
    pub const fn new() -> Self {
        Self { free: Semaphore::const_new(AT_ONCE), ended: AtomicUsize::new(0) }
    }

    /// Waits for a turn. Where none has ended for a second, it is had without waiting any longer.
    pub async fn take(&self) -> Turn<'_> {
        let mut free = pin!(self.free.acquire());
        loop {
            let ended = self.ended.load(Ordering::Relaxed);
            match timeout(PATIENCE, free.as_mut()).await {
                // Never closed.
                Ok(permit) => return Turn { turns: self, _permit: permit.ok() },
                Err(_) if self.ended.load(Ordering::Relaxed) == ended => return Turn { turns: self, _permit: None },
                Err(_) => {}
            }
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.ended.fetch_add(1, Ordering::Relaxed);
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
    async fn a_turn_is_waited_for_while_others_end_and_nobody_waits_for_ever() {
        let turns = Turns::new();
        let (first, second) = (turns.take().await, turns.take().await);
        let stuck = turns.take().await;
        assert!(stuck._permit.is_none(), "goes on without one");
        drop(stuck);
        let (mut third, mut fourth) = (pin!(turns.take()), pin!(turns.take()));
        for _ in 0..4 {
            assert!(timeout(PATIENCE * 5 / 10, &mut third).await.is_err());
            drop(Turn { turns: &turns, _permit: None });
            assert!(timeout(PATIENCE * 4 / 10, &mut third).await.is_err(), "one has ended meanwhile");
        }
        drop(first);
        assert!(third.await._permit.is_some());
        drop(second);
        assert!(timeout(PATIENCE * 10, &mut fourth).await.expect("in time")._permit.is_some());
    }
}
