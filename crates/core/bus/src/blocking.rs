//! Work that may block, off the runtime's thread.
//!
//! A thread that is idle keeps its stack and what it had allocated, so that two do the work of the whole daemon, one piece after
//! the other. A disk that never answers holds up who asked it and nobody else: where both are held up, each piece of work gets a
//! thread of its own, which ends with it.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, oneshot};
use tokio::time::timeout;

/// Threads that a runtime keeps for work that may block: its builder is given this.
pub const BLOCKING_THREADS: usize = 2;

/// Longest time in which no work ends before other work goes past it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The threads belong to the process, and so do their turns.
static TURNS: Turns = Turns::new();

/// The work has panicked, or the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it has come to no end")]
pub struct Unfinished;

/// Does what may block when its turn comes; where no work ends for a second, without waiting any longer.
///
/// # Errors
/// Where the work has panicked, or the runtime ends before it.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Unfinished> {
    let turn = TURNS.take().await;
    let is_past = turn.permit.is_none();
    // The turn ends with the work, also where nobody waits for that any more.
    let work = move || {
        let _turn = turn;
        work()
    };
    let work = match is_past {
        false => work,
        true => match on_a_thread_of_its_own(work) {
            Ok(done) => return done.await.map_err(|_| Unfinished),
            // The kernel gives none; then it waits for those that there are.
            Err(work) => work,
        },
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| Unfinished)
}

fn on_a_thread_of_its_own<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
    work: W,
) -> Result<oneshot::Receiver<T>, W> {
    let (give, take) = std::sync::mpsc::channel::<W>();
    let (done, result) = oneshot::channel();
    let run = move || {
        if let Ok(work) = take.recv() {
            // Nobody may wait for it any more.
            let _ = done.send(work());
        }
    };
    match thread::Builder::new().name("past-a-disk".to_owned()).spawn(run) {
        Ok(_) => give.send(work).map(|()| result).map_err(|refused| refused.0),
        Err(_) => Err(work),
    }
}

/// Who may use one of the threads.
#[derive(Debug)]
struct Turns {
    free: Semaphore,
    /// How many have ended so far.
    ended: AtomicUsize,
}

/// A turn, until it is dropped.
#[derive(Debug)]
struct Turn<'a> {
    turns: &'a Turns,
    /// None where all threads are held up.
    permit: Option<SemaphorePermit<'a>>,
}

impl Turns {
    const fn new() -> Self {
        Self { free: Semaphore::const_new(BLOCKING_THREADS), ended: AtomicUsize::new(0) }
    }

    async fn take(&self) -> Turn<'_> {
        let mut free = pin!(self.free.acquire());
        loop {
            let ended = self.ended.load(Ordering::Relaxed);
            match timeout(PATIENCE, free.as_mut()).await {
                // Never closed.
                Ok(permit) => return Turn { turns: self, permit: permit.ok() },
                Err(_) if self.ended.load(Ordering::Relaxed) == ended => return Turn { turns: self, permit: None },
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_turn_is_waited_for_while_others_end_and_nobody_waits_for_ever() {
        let turns = Turns::new();
        let (first, second) = (turns.take().await, turns.take().await);
        let stuck = turns.take().await;
        assert!(stuck.permit.is_none(), "goes on without one");
        drop(stuck);
        let (mut third, mut fourth) = (pin!(turns.take()), pin!(turns.take()));
        for _ in 0..4 {
            assert!(timeout(PATIENCE * 5 / 10, &mut third).await.is_err());
            drop(Turn { turns: &turns, permit: None });
            assert!(timeout(PATIENCE * 4 / 10, &mut third).await.is_err(), "one has ended meanwhile");
        }
        drop(first);
        assert!(third.await.permit.is_some());
        drop(second);
        assert!(timeout(PATIENCE * 10, &mut fourth).await.expect("in time").permit.is_some());
    }

    #[tokio::test]
    async fn work_goes_past_work_that_is_stuck_and_a_panic_ends_alone() {
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = std::sync::Arc::new(std::sync::Mutex::new(released));
        let stuck: Vec<_> = (0..BLOCKING_THREADS)
            .map(|_| {
                let released = released.clone();
                tokio::spawn(blocking(move || {
                    let _ = released.lock().expect("whole").recv();
                }))
            })
            .collect();
        while TURNS.free.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(blocking(|| thread::current().name().map(str::to_owned)).await, Ok(Some("past-a-disk".to_owned())));
        drop(release);
        for stuck in stuck {
            assert_eq!(stuck.await.expect("joined"), Ok(()));
        }
        assert_eq!(blocking(|| panic!("expected by this test")).await, Err::<(), _>(Unfinished));
        assert_eq!(blocking(|| 7).await, Ok(7));
    }
}
