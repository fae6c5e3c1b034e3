//! Runs blocking work off the runtime's thread.
//!
//! Two threads do all blocking work of the daemon, one task after the other, because an idle thread keeps its stack and its heap
//! arena. A disk that never answers must delay only the caller that asked it: if both threads are stuck for a second, each further
//! task runs on a thread of its own, which ends with the task.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

/// Threads of the blocking pool.
pub(crate) const BLOCKING_THREADS: usize = 2;

/// If no pool thread finishes anything for this long, waiting work goes to an overflow thread.
const STUCK_AFTER: Duration = Duration::from_secs(1);

thread_local! {
    /// One pool for each runtime, as each has threads of its own: the daemon's runs on one thread. Tests run many in one process,
    /// and none may wait for the work of another.
    static POOL: Arc<BlockingPool> = Arc::new(BlockingPool::new());
}

/// The work panicked, or the runtime shut down before it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the blocking task panicked, or the runtime is shutting down")]
pub struct BlockingError;

/// Runs `work` on the blocking pool; if no pool thread has finished anything for a second, on a thread of its own.
///
/// # Errors
/// If the work panics, or the runtime shuts down before it ends.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BlockingError> {
    let permit = POOL.with(Arc::clone).acquire().await;
    let overflows = permit.slot.is_none();
    // The permit is released when the work ends, even if the caller has been cancelled meanwhile.
    let work = move || {
        let _permit = permit;
        work()
    };
    let work = match overflows {
        false => work,
        true => match on_overflow_thread(work) {
            Ok(done) => return done.await.map_err(|_| BlockingError),
            // The kernel refuses another thread: wait for the pool after all.
            Err(work) => work,
        },
    };
    tokio::task::spawn_blocking(work).await.map_err(|_| BlockingError)
}

fn on_overflow_thread<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
    work: W,
) -> Result<oneshot::Receiver<T>, W> {
    let (give, take) = std::sync::mpsc::channel::<W>();
    let (done, result) = oneshot::channel();
    let run = move || {
        if let Ok(work) = take.recv() {
            // The caller may have been cancelled.
            let _ = done.send(work());
        }
    };
    match thread::Builder::new().name("blocking-overflow".to_owned()).spawn(run) {
        Ok(_) => give.send(work).map(|()| result).map_err(|refused| refused.0),
        Err(_) => Err(work),
    }
}

/// Admission to the pool threads.
#[derive(Debug)]
struct BlockingPool {
    free: Arc<Semaphore>,
    /// Tasks that have ended so far; overflow starts only while this stands still.
    ended: AtomicUsize,
}

/// The right to run one task; released on drop.
#[derive(Debug)]
struct PoolPermit {
    pool: Arc<BlockingPool>,
    /// A pool thread; `None` for an overflow thread.
    slot: Option<OwnedSemaphorePermit>,
}

impl BlockingPool {
    fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(BLOCKING_THREADS)), ended: AtomicUsize::new(0) }
    }

    async fn acquire(self: Arc<Self>) -> PoolPermit {
        let mut free = pin!(self.free.clone().acquire_owned());
        loop {
            let ended = self.ended.load(Ordering::Relaxed);
            match timeout(STUCK_AFTER, free.as_mut()).await {
                // The semaphore is never closed, so an error cannot come.
                Ok(slot) => return PoolPermit { pool: self, slot: slot.ok() },
                Err(_) if self.ended.load(Ordering::Relaxed) == ended => return PoolPermit { pool: self, slot: None },
                Err(_) => {}
            }
        }
    }
}

impl Drop for PoolPermit {
    fn drop(&mut self) {
        self.pool.ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn work_waits_while_other_work_ends_and_nothing_waits_for_ever() {
        let pool = Arc::new(BlockingPool::new());
        let acquire = || pool.clone().acquire();
        let (first, second) = (acquire().await, acquire().await);
        let stuck = acquire().await;
        assert!(stuck.slot.is_none(), "goes on without one");
        drop(stuck);
        let (mut third, mut fourth) = (pin!(acquire()), pin!(acquire()));
        for _ in 0..4 {
            assert!(timeout(STUCK_AFTER * 5 / 10, &mut third).await.is_err());
            drop(PoolPermit { pool: pool.clone(), slot: None });
            assert!(timeout(STUCK_AFTER * 4 / 10, &mut third).await.is_err(), "one has ended meanwhile");
        }
        drop(first);
        assert!(third.await.slot.is_some());
        drop(second);
        assert!(timeout(STUCK_AFTER * 10, &mut fourth).await.expect("in time").slot.is_some());
    }

    #[tokio::test]
    async fn work_overflows_past_stuck_work_and_a_panic_ends_alone() {
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = Arc::new(std::sync::Mutex::new(released));
        let stuck: Vec<_> = (0..BLOCKING_THREADS)
            .map(|_| {
                let released = released.clone();
                tokio::spawn(blocking(move || {
                    let _ = released.lock().expect("whole").recv();
                }))
            })
            .collect();
        while POOL.with(|pool| pool.free.available_permits()) > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(
            blocking(|| thread::current().name().map(str::to_owned)).await,
            Ok(Some("blocking-overflow".to_owned()))
        );
        drop(release);
        for stuck in stuck {
            assert_eq!(stuck.await.expect("joined"), Ok(()));
        }
        assert_eq!(blocking(|| panic!("expected by this test")).await, Err::<(), _>(BlockingError));
        assert_eq!(blocking(|| 7).await, Ok(7));
    }
}
