//! Reaps orphans: processes that we did not make and that became our children because their parents died.
//!
//! Only process 1 of a container and a subreaper get orphans. Waiting for *any* child would take the status of a child that somebody
//! waits for (measured: 86 of 100 lost), so zombies are searched in `/proc` and reaped one by one, by id.

use std::collections::BTreeSet;
use std::time::Duration;

use llama_warden_procfs::{ProcessStat, process_ids};
use llama_warden_support::blocking;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::descent::reap;

/// A signal stream of ended children if this process can get orphans; `None` if it cannot.
pub fn orphan_notices() -> std::io::Result<Option<Signal>> {
    let is_init = std::process::id() == 1;
    if is_init || nix::sys::prctl::get_child_subreaper().unwrap_or(false) {
        signal(SignalKind::child()).map(Some)
    } else {
        Ok(None)
    }
}

/// Time after which a zombie counts as an orphan. Who has a child of its own, such as the guardian, waits for it and reaps it within
/// moments.
const UNCLAIMED_AFTER: Duration = Duration::from_millis(500);

/// Reaps every zombie that is our child and is still there after half a second.
pub async fn reap_orphans() {
    let Ok(seen) = blocking(zombies).await else { return };
    if seen.is_empty() {
        return;
    }
    tokio::time::sleep(UNCLAIMED_AFTER).await;
    let reap_all = move || {
        let left: Vec<u32> = zombies().intersection(&seen).map(|(pid, _)| *pid).collect();
        for pid in &left {
            reap(*pid);
        }
        left.len()
    };
    if let Ok(reaped) = blocking(reap_all).await {
        tracing::debug!(reaped, "orphans reaped");
    }
}

/// Pid and start time of the zombies that are our children.
fn zombies() -> BTreeSet<(u32, u64)> {
    let this = std::process::id();
    process_ids()
        .filter_map(ProcessStat::of)
        .filter(|stat| stat.is_zombie() && stat.parent == this)
        .map(|stat| (stat.pid, stat.start_ticks))
        .collect()
}
