//! Runs llama-warden's daemon: composes the components, starts them, and turns their end into an exit code.
//!
//! The command line uses the rest of what is public here: the loaded configuration, discovered models, exit codes, and
//! the embedded documents.

mod compose;
mod config_watch;
mod daemon;
pub mod documents;
mod exit;
mod extensions;
mod fleet_source;
mod heap;
mod load;
pub mod models;
mod signals;
mod state_dir;

pub use daemon::{Daemon, Order, let_go, runtime};
pub use exit::{Exit, Failure, Told};
pub use extensions::Matchers;
pub use fleet_source::profiles;
pub use heap::share;
pub use load::{Loaded, report, report_all};
