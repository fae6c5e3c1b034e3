//! Reads what the kernel knows of processes, their descriptors and sockets: from `/proc`, and over netlink.
//!
//! Every result is a snapshot that may be out of date when it is returned: another process can end, and its number can
//! name a new one. A caller that acts on a process pins it first (a pidfd, or a child that is not reaped), or compares
//! [`ProcessStat::start_ticks`], which together with the number names a process for good.
//!
//! No read here takes a lock of the process, so a process that hangs in the kernel does not delay the reader.
//!
//! The crate `procfs` from crates.io reads the same files and much more. It parses every field of `stat` into owned
//! values, where a sweep over all processes needs five numbers of each, and it brings three more crates.
//!
//! ```
//! use llama_warden_procfs::ProcessStat;
//!
//! let own = ProcessStat::of(std::process::id()).expect("a running process has a stat file");
//! assert!(own.threads >= 1 && !own.is_zombie());
//! ```

mod descriptors;
mod oom_kills;
mod proc_net;
mod process;
mod sock_diag;
mod sockets;
mod stat;
mod tree;

pub use descriptors::{descriptor_limit, open_descriptors};
pub use oom_kills::OomKills;
pub use process::{children, descendants, environment, listener, listens, process_ids, program_name, socket_inodes};
pub use sockets::{SocketAddress, listening_addresses, listening_inodes, peer_user};
pub use stat::{ProcessStat, RunState, ticks_as_seconds};
pub use tree::ProcessTree;
