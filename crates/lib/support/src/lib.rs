//! Small tools that several crates need and that know nothing of servers.

mod blocking;
mod interner;
mod slot_channel;

pub use blocking::{BLOCKING_THREADS, BlockingError, blocking};
pub use interner::Interner;
pub use slot_channel::{SlotClosed, SlotReceiver, SlotSender, slot_channel};
