//! Saves the slots of launches before they are stopped, and restores them before the first request.
//!
//! * [`SlotKeeping`] decides when launches are saved and restored, and publishes the outcome. Its owner spawns the slow work.
//! * [`CacheKeeper`] asks the servers, and owns the files.

mod keeper;
mod launches;

pub use keeper::{CacheKeeper, EndedTurn, Prepared};
pub use launches::{AfterSave, SaveResult, SlotKeeping};
pub use llama_warden_slot_cache::clear;
