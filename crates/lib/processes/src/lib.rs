//! Processes: how they are run, recognised, signalled, awaited and swept.
//!
//! The daemon has one child, the [guardian], which forks a shim for each program. The shim is the parent of
//! the program and gets every orphan below it, so that nothing escapes. Launch tags and locks find what is left if daemon, guardian
//! and shims are killed at once. Each file opens with the rule of the kernel that forces its design.

pub mod adoption;
pub mod child_process;
mod descent;
pub mod environment;
pub mod guardian;
mod keeper;
pub mod kept_page;
pub mod launch_tag;
pub mod leftovers;
pub mod listener;
pub mod lock;
pub mod process_handle;
mod program;
pub mod reaper;
pub mod runs_file;
pub mod server_address;
mod shim;
pub mod spawn_request;
pub mod spawner;
pub mod sweep;
mod wire;
