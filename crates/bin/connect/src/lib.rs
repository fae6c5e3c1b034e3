//! The options of every command, and what they lead to: the daemon of a command, the one that follows it, and its servers.

mod daemon;
mod global_args;
mod next_daemon;
mod servers;
pub mod values;

pub use daemon::{no_answer, request_failure, to_daemon, within};
pub use global_args::{GlobalArgs, path};
pub use next_daemon::{EndNotice, StreamEnd, await_daemon};
pub use servers::{ServerSelector, keep_named, keep_named_of_all, retain_named, retain_named_of_peers};
