//! Processes: how they are spawned, recognised, signalled, awaited, swept and reaped.
//!
//! Each file opens with the rule of the kernel that forces its design.

pub mod child;
pub mod child_process;
pub mod environment;
pub mod launch_tag;
pub mod leftovers;
pub mod listener;
pub mod lock;
mod process_handle;
pub mod reaper;
pub mod server_address;
pub mod shim;
pub mod spawn_request;
pub mod spawner;
pub mod sweep;
