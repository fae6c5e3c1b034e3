//! The file that keeps what was counted of servers, for a daemon that takes over.

use std::collections::BTreeMap;
use std::time::Duration;

use llama_warden_events::{ServerId, ServerTotals};
use llama_warden_requests::RequestTotals;
use serde::{Deserialize, Serialize};

use crate::kept_file::{KeptFile, KeptState};

/// `totals.json` in the state directory: there from a hand-over to the next start.
pub type TotalsFile = KeptFile<TotalsByServer>;

/// What was counted of every server.
pub type TotalsByServer = BTreeMap<ServerId, KeptTotals>;

/// What was counted of a server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptTotals {
    /// By its events.
    pub events: ServerTotals,
    /// By the lines about requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<RequestTotals>,
    /// Of its lines of standard output, then of standard error.
    pub lines: [LineTotals; 2],
}

/// The lines of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineTotals {
    /// Those that the server wrote.
    pub written: u64,
    /// Those that followers lost.
    pub dropped: u64,
}

impl KeptState for TotalsByServer {
    const FILE: &str = "totals.json";
    const LOSS: &str = "the counters of servers that are down begin anew";

    /// Counts do not age.
    fn after(self, _: Duration) -> Self {
        self
    }
}
