//! What detector packs and flag dialects have in common as text files that adapt llama-warden to builds of llama-server.
//!
//! Some are built in, others lie in a folder of the user's. One is the **fallback**: it fits every build and lies behind all
//! others. Of those that fit a build the most specific is taken, at equal fit a file before a built-in one, and an equal
//! name replaces a built-in one. A file that is not valid is refused with its place and a next step, and what it said
//! before stays in force.
//!
//! The crate knows no runtime. Whoever looks into a folder does so where waiting for a disk disturbs nobody.

mod build_fit;
mod choose;
mod file;
mod file_error;
mod origin;
mod plugin_set;
mod reload_tracker;

pub use build_fit::{BuildFit, BuildRange};
pub use choose::{Choice, choose};
pub use file::{PluginFile, PluginInfo};
pub use file_error::{FileError, PluginSource};
pub use origin::Origin;
pub use plugin_set::{PluginSet, PluginSetError, ScanResult};
pub use reload_tracker::{ReloadChanges, ReloadTracker};
