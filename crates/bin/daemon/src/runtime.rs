//! The daemon's tokio runtime: one thread for all tasks, and others for blocking work.

use std::time::Duration;

use llama_warden_exit::{CommandFailure, CommandResult, next_step_for};
use llama_warden_support::{BLOCKING_THREADS, try_thread};
use tokio::runtime::{Builder, Runtime};

/// How long an idle blocking thread is kept: for ever, in practice.
///
/// If the kernel refuses a new thread, tokio queues the work for an existing one, and panics where there is none. So the
/// first blocking thread is made at the start, and none ever ends.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(u32::MAX as u64);

/// Runs the work of a command that talks to a daemon or to an executable.
///
/// # Errors
/// Those of the work, and those of [`build_runtime`].
pub fn on_runtime(work: impl Future<Output = CommandResult>) -> CommandResult {
    let runtime = build_runtime()?;
    let result = runtime.block_on(work);
    // Does not wait for blocking threads: one of them may wait for a lock or a name that never comes.
    runtime.shutdown_background();
    result
}

/// Builds a runtime. Tasks of the daemon mostly wait, so one thread serves any number of servers, from one heap.
///
/// End it by [`Runtime::shutdown_background`]: a blocking thread may be stuck in a read from a disk that never answers.
///
/// # Errors
/// The kernel refuses a thread or a descriptor.
pub fn build_runtime() -> Result<Runtime, CommandFailure> {
    let runtime = Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .thread_name("llama-warden")
        .enable_all()
        .build()
        .map_err(|error| CommandFailure::failed(format!("cannot start the runtime: {error}")))?;
    // It panics where the kernel gives no thread.
    try_thread().map_err(|error| {
        CommandFailure::failed(format!("cannot start a thread: {error}"))
            .next_step(next_step_for(&error).unwrap_or("look at the limits of the machine"))
    })?;
    drop(runtime.spawn_blocking(|| ()));
    Ok(runtime)
}
