//! Reaps orphans: processes that we did not make and that became our children because their parents died.
//!
//! Only process 1 of a container and a subreaper get orphans. Waiting for *any* child would take the status of a llama-server
//! (measured: 86 of 100 lost), so zombies are searched in `/proc` and reaped one by one, by id.

use std::collections::BTreeSet;
use std::time::Duration;

use llama_warden_procfs::{ProcessStat, process_ids};
use llama_warden_support::blocking;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::child::{ChildSet, reap_now};

/// A signal stream of ended children if this process can get orphans; `None` if it cannot.
pub fn orphan_notices() -> std::io::Result<Option<Signal>> {
    let is_init = std::process::id() == 1;
    if is_init || nix::sys::prctl::get_child_subreaper().unwrap_or(false) {
        signal(SignalKind::child()).map(Some)
    } else {
        Ok(None)
    }
}

/// Time after which a zombie counts as an orphan. A component with a child of its own, such as a hook, waits for it with std
/// and reaps it within moments.
const UNCLAIMED_AFTER: Duration = Duration::from_millis(500);

/// Reaps every zombie that is our child, is not in `children`, and is still there after half a second.
pub async fn reap_orphans(children: ChildSet) {
    let search = {
        let children = children.clone();
        move || unclaimed(&children)
    };
    let Ok(seen) = blocking(search).await else { return };
    if seen.is_empty() {
        return;
    }
    tokio::time::sleep(UNCLAIMED_AFTER).await;
    let reap = move || unclaimed(&children).intersection(&seen).filter_map(|(pid, _)| reap_now(*pid)).count();
    if let Ok(reaped) = blocking(reap).await {
        tracing::debug!(reaped, "orphans reaped");
    }
}

/// Pid and start time of the zombies that are our children and not in `children`.
fn unclaimed(children: &ChildSet) -> BTreeSet<(u32, u64)> {
    // Locked during the search: a child made meanwhile would look like an orphan.
    let ours = children.lock();
    let this = std::process::id();
    process_ids()
        .filter_map(ProcessStat::of)
        .filter(|stat| stat.is_zombie() && stat.parent == this && !ours.contains(&stat.pid))
        .map(|stat| (stat.pid, stat.start_ticks))
        .collect()
}
