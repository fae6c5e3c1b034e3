//! Runs the user's commands before and after starts and stops of servers.
//!
//! | command | runs | who waits for it | is cancelled |
//! |---|---|---|---|
//! | `pre-start` | when the launcher asks for it, before each launch | the launcher | when its launch is to stop |
//! | `post-ready` | once for each launch that becomes ready | nobody | never |
//! | `pre-stop` | when the terminator asks for it, before the first signal | the terminator | when its process is gone |
//! | `post-exit` | once for each process that exits | nobody | never |
//!
//! A command is an argument list without a shell. It inherits the daemon's environment, and `LLAMA_WARDEN_*` variables
//! describe the server. A command that exceeds its limit is killed with everything below it. Its output goes to the log.
//! Commands of one server run one after the other, in the order of their events; those of different servers side by side.
//!
//! What a command leaves running in the background runs on until the daemon ends.

mod call;
mod component;
mod output;
mod process;
mod queue;

pub use component::Hooks;
