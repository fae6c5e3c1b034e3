//! Processes: how they are spawned, recognised, signalled, awaited, swept and reaped.
//!
//! Each file opens with the rule of the kernel that forces its design.

mod child;
pub(crate) mod child_process;
pub(crate) mod environment;
pub(crate) mod launch_tag;
pub(crate) mod leftovers;
pub(crate) mod listener;
pub(crate) mod lock;
mod process_handle;
pub(crate) mod reaper;
pub(crate) mod server_address;
pub mod shim;
pub(crate) mod spawn_request;
pub(crate) mod spawner;
pub(crate) mod sweep;
