//! Saves the slots of launches before they are stopped, and restores them before the first request.
//!
//! * [`SlotKeeping`]: the launches: when they are saved and restored, and what is told of it. Its owner spawns what takes a while.
//! * [`CacheKeeper`]: asks the servers, and has the files.

mod keeper;
mod launches;

pub use keeper::{CacheKeeper, EndedTurn, Prepared};
pub use launches::{AfterSave, SaveResult, SlotKeeping};
pub use llama_warden_slot_cache::clear;
