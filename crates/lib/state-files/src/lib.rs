//! Files in the state directory that keep what was chosen and counted across runs of the daemon.
//!
//! A file that is missing, cut off or garbled counts as empty: the daemon starts without it.

mod failures;
mod ports;

pub use failures::{FailureCounts, FailureFile};
pub use ports::{KeptServer, KeptServers, PortFile};
