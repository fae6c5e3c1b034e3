//! Whether the kernel gives threads.

use std::io;
use std::thread;

/// Starts a thread that does nothing, for libraries that panic where the kernel gives them none.
///
/// # Errors
/// The kernel gives no thread: a limit of processes (`ulimit -u`, `pids.max`) is reached.
pub fn try_thread() -> io::Result<()> {
    let thread = thread::Builder::new().spawn(|| ())?;
    // It does not panic.
    let _ = thread.join();
    Ok(())
}
