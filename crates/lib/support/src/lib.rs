//! Small tools that several crates need and that know nothing of servers.

mod blocking;

pub use blocking::{BLOCKING_THREADS, BlockingError, blocking};
