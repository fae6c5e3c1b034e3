//! Runs llama-warden's daemon: composes the components, starts them, and turns their end into an exit code.
//!
//! The command line uses the rest of what is public here: state directory, sockets, token files, and the embedded documents.

#[cfg(test)]
mod compliance;
mod compose;
mod config_watch;
mod daemon;
pub mod documents;
mod extensions;
mod file_watch;
mod fleet_source;
mod heap;
mod keys_file;
mod reread_file;
mod runtime;
mod settings;
mod signals;
mod sockets;
mod state_dir;
mod state_folder;
mod state_notices;
mod state_watch;
mod token_file;

pub use daemon::{PreparedDaemon, UpOptions};
pub use extensions::{AddComponent, Extension, Extensions};
pub use heap::set_up_heap;
pub use llama_warden_readiness::MakeMatcher;
pub use llama_warden_support::open_to_others;
pub use runtime::{build_runtime, on_runtime};
pub use settings::rehearse;
pub use sockets::inherited_sockets;
pub use state_dir::StateDir;
pub use state_folder::{BACKGROUND_LOG, LOCK};
pub use token_file::read_token;
