//! Files in the state directory that keep what was chosen and counted across runs of the daemon.
//!
//! A file that is missing, cut off or garbled counts as empty: the daemon starts without it.

mod down;
mod failures;
mod kept_file;
mod ports;
mod totals;
mod unreadable;

pub use down::{DownFile, DownServer, DownServers};
pub use failures::{FailureCounts, FailureFile};
pub use kept_file::{KeptFile, KeptState};
pub use ports::{KeptServer, KeptServers, PortFile};
pub use totals::{KeptTotals, LineTotals, TotalsByServer, TotalsFile};
pub use unreadable::{UnreadableFile, unreadable};
