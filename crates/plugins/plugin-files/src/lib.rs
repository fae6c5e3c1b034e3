//! Files that adapt llama-warden to builds of llama-server: what detector packs and flag dialects have in common.
//!
//! A kind of file implements [`PluginFile`]. Some files of each kind are built in, others are in a directory of the user;
//! [`PluginSet`] holds both. The rules:
//!
//! * Of the files that fit a build, the most specific one is chosen; at equal fit, a file of the directory before a built-in
//!   one ([`choose()`]).
//! * A file of the directory replaces the built-in file of the same name.
//! * One file of each kind is the **fallback**: it fits every build, and its content completes every other file.
//! * An invalid file is refused with its place and a next step ([`FileError`]). Its former content stays in force.
//!
//! The crate is pure but for reading files: no tokio, no bus. A caller on an async runtime scans directories on a thread
//! that may block.

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
