//! Finds out for commands, without a daemon, how a build of llama-server behaves.
//!
//! [`executable`] asks one for its version and options, [`option_check`] compares a configuration with them, [`memory_report`] with
//! the memory, [`addresses`] with those of this machine, [`plugin_files`] reads the packs and dialects that fit it, and [`starts`] starts it
//! a few times to record what it prints.

pub mod addresses;
pub mod executable;
pub mod memory_report;
pub mod option_check;
pub mod parsed_log;
pub mod plugin_files;
pub mod recorder;
pub mod starts;
