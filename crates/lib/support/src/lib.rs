//! Small tools that several crates need and that know nothing of servers.

mod blocking;
mod interner;
mod lock;
mod replace_file;
mod slot_channel;

pub use blocking::{BLOCKING_THREADS, BlockingError, blocking};
pub use interner::Interner;
pub use lock::lock;
pub use replace_file::{Durability, replace_file};
pub use slot_channel::{SlotClosed, SlotReceiver, SlotSender, slot_channel};
