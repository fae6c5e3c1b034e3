//! Reaps orphans: processes that are not ours and became our children because their parents died.
//!
//! Only process 1 of a container and a subreaper get any. A wait for *any* child would steal the status of a
//! llama-server (measured: 86 of 100 lost), so that zombies are looked up in `/proc` and reaped one by one, by id.

use std::collections::BTreeSet;
use std::time::Duration;

use llama_warden_support::blocking;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::child::{Children, reap_now};
use crate::proc::{self, Stat};

/// Listens for ended children, if this process can get orphans; `None` if it cannot.
pub(crate) fn orphan_notices() -> std::io::Result<Option<Signal>> {
    let is_init = std::process::id() == 1;
    if is_init || nix::sys::prctl::get_child_subreaper().unwrap_or(false) {
        signal(SignalKind::child()).map(Some)
    } else {
        Ok(None)
    }
}

/// How long a zombie that nobody claims stays one. A component that made a child of its own, such as a hook, waits for it
/// with std and takes its status within moments; an orphan stays.
const UNCLAIMED_AFTER: Duration = Duration::from_millis(500);

/// Reaps every zombie that is our child, is not in `children`, and is still there after [`UNCLAIMED_AFTER`].
pub(crate) async fn reap_orphans(children: Children) {
    let look = {
        let children = children.clone();
        move || unclaimed(&children)
    };
    let Ok(seen) = blocking(look).await else { return };
    if seen.is_empty() {
        return;
    }
    tokio::time::sleep(UNCLAIMED_AFTER).await;
    let reap = move || unclaimed(&children).intersection(&seen).filter_map(|(pid, _)| reap_now(*pid)).count();
    if let Ok(reaped) = blocking(reap).await {
        tracing::debug!(reaped, "orphans reaped");
    }
}

/// Zombies that are our children and not in `children`, by pid and start.
fn unclaimed(children: &Children) -> BTreeSet<(u32, u64)> {
    // Held over the look: a child that is made meanwhile would look like an orphan.
    let ours = children.lock();
    let this = std::process::id();
    proc::processes()
        .filter_map(Stat::of)
        .filter(|stat| stat.is_zombie() && stat.parent == this && !ours.contains(&stat.pid))
        .map(|stat| (stat.pid, stat.start_ticks))
        .collect()
}
