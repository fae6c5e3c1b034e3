//! A tokio runtime of one thread, and of others for blocking work, that no refused thread makes panic.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::time::Duration;

use rustix::io::Errno;
use tokio::runtime::{Builder, Runtime};

use crate::blocking::BLOCKING_THREADS;
use crate::lock;

/// How long an idle blocking thread is kept: for ever, in practice.
///
/// If the kernel refuses a new thread, tokio queues the work for an existing one, and panics where there is none. So the
/// first blocking thread is made at the start, and none ever ends.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(u32::MAX as u64);

/// Builds a runtime whose blocking threads have this name.
///
/// End it by [`Runtime::shutdown_background`]: a blocking thread may be stuck in a read from a disk that never answers.
///
/// # Errors
/// The kernel refuses a thread or a descriptor.
pub fn build_runtime(name: &str) -> io::Result<Runtime> {
    let mut builder = Builder::new_current_thread();
    builder.max_blocking_threads(BLOCKING_THREADS).thread_keep_alive(THREAD_KEEP_ALIVE).thread_name(name).enable_all();
    let runtime = builder.build()?;
    match start_blocking_thread(&runtime) {
        Ok(()) => Ok(runtime),
        Err(error) => {
            // Not dropped, which panics in a task of another runtime.
            runtime.shutdown_background();
            Err(error)
        }
    }
}

/// Has tokio start its first blocking thread, at which it panics where the kernel refuses it.
///
/// Rejected: a thread that is tried out before. Another one may take the place of that, and the kernel counts a thread that has ended
/// for a moment longer.
fn start_blocking_thread(runtime: &Runtime) -> io::Result<()> {
    /// The hook is one for the process.
    static HOOK: Mutex<()> = Mutex::new(());
    let held = lock(&HOOK);
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let started = panic::catch_unwind(AssertUnwindSafe(|| drop(runtime.spawn_blocking(|| ()))));
    panic::set_hook(hook);
    drop(held);
    started.map_err(|_| Errno::AGAIN.into())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::blocking;

    #[test]
    fn blocking_work_has_a_thread_from_the_start() {
        let runtime = build_runtime("a-runtime").expect("a thread");
        let named = || thread::current().name().map(str::to_owned);
        assert_eq!(runtime.block_on(blocking(named)), Ok(Some("a-runtime".to_owned())));
        runtime.shutdown_background();
    }
}
