//! Small tools that several crates need and that know nothing of servers.

mod blocking;
mod lock;
mod replace_file;

pub use blocking::{BLOCKING_THREADS, BlockingError, blocking};
pub use lock::lock;
pub use replace_file::{Durability, replace_file};
