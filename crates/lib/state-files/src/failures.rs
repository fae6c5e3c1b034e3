//! The file that keeps the consecutive failures of each server across runs of the daemon.
//!
//! Without it, a daemon that crashes and is restarted by its own supervisor would turn a bounded crash loop into an endless
//! one. A file that is missing, cut off or older than [`MAX_AGE`] counts as no failures: a person who starts the daemon
//! again the next day wants its servers tried.

use std::collections::BTreeMap;
use std::time::Duration;

use llama_warden_events::ServerId;

use crate::kept_file::{KeptFile, KeptState};

/// How long the failures of an earlier run count.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(10 * 60);

/// Consecutive failures by server; a server without failures has no entry.
pub type FailureCounts = BTreeMap<ServerId, u32>;

/// `failures.json` in the state directory.
pub type FailureFile = KeptFile<FailureCounts>;

impl KeptState for FailureCounts {
    const FILE: &str = "failures.json";
    const LOSS: &str = "a restart of the daemon begins to count failures anew";

    fn after(self, age: Duration) -> Self {
        if age > MAX_AGE { Self::new() } else { self }
    }
}
