//! Keeps what is counted of a running launch in the page that its shim holds open.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use llama_warden_events::ServerId;
use llama_warden_processes::kept_page::KeptPage;

use super::context::{Launch, LaunchResources};
use super::totals;

/// The page of a running launch.
pub(crate) struct TotalsPage {
    page: Arc<KeptPage>,
    server: ServerId,
    resources: Arc<LaunchResources>,
    /// Of the requests that the page has.
    revision: AtomicU64,
}

impl TotalsPage {
    pub(crate) fn new(page: &Arc<KeptPage>, launch: &Launch) -> Self {
        let (page, server, resources) = (page.clone(), launch.reporter.server.clone(), launch.resources.clone());
        Self { page, server, resources, revision: AtomicU64::new(0) }
    }

    /// Writes what the lines that were read have changed.
    pub(crate) fn store_output(&self) {
        let revision = self.resources.lane.requests().revision(&self.server);
        if self.revision.swap(revision, Ordering::Relaxed) == revision {
            self.write(0, &totals::encoded(totals::of_lines(&self.resources.lane, &self.server)));
        } else {
            self.store();
        }
    }

    /// Writes everything.
    pub(crate) fn store(&self) {
        let totals = totals::of_server(&self.resources.bus.snapshot(), &self.resources.lane, &self.server);
        let mut bytes = totals::encoded(totals.lines).to_vec();
        // It has only texts and numbers, which can all be written.
        bytes.extend(serde_json::to_vec(&totals).unwrap_or_default());
        bytes.push(b'\n');
        self.write(0, &bytes);
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        // An error means that the machine has no memory: the next daemon goes on from what was written before.
        let _ = self.page.write(offset, bytes);
    }
}
