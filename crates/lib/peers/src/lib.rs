//! Asks the daemons of other machines for their servers, when somebody looks.
//!
//! All peers are asked at once and within one [`DEADLINE`], so that one which hangs costs its own entry alone. Questions that come
//! together share their answers. A peer is asked for its own servers, never for those of its peers, so that circles cost nothing.
//! Nothing is asked by itself, and nothing is written down: since when a peer does not answer is known from the questions of this
//! run of the daemon.

mod lookup;
mod peer;
mod round;
mod targets;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use llama_warden_api_types::{PeerProblem, PeerReport, TargetGroup};
use llama_warden_events::BootId;
use llama_warden_fleet::PeerSettings;
use llama_warden_support::lock;

use peer::Peer;
use round::Rounds;

/// Longest time that a peer may take for its answer, from the look-up of its name to the last byte.
pub const DEADLINE: Duration = Duration::from_secs(2);

/// The peers of a daemon. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Peers(Arc<PeersState>);

#[derive(Debug, Default)]
struct PeersState {
    peers: Mutex<Vec<Arc<Peer>>>,
    statuses: Rounds<PeerReport>,
    targets: Rounds<PeerTargets>,
}

/// The targets of a peer for Prometheus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerTargets {
    /// The peer's name.
    pub peer: String,
    /// What it gave last. The groups of a peer that does not answer stay, so that Prometheus sees them down instead of
    /// forgetting them.
    pub groups: Vec<TargetGroup>,
}

impl Peers {
    /// The configured peers.
    pub fn new(settings: &[PeerSettings]) -> Self {
        let this = Self::default();
        this.set(settings);
        this
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        lock(&self.0.peers).is_empty()
    }

    /// Replaces the peers. What is known of one that stays as it was is kept.
    pub fn set(&self, settings: &[PeerSettings]) {
        let mut peers = lock(&self.0.peers);
        let kept = |settings: &PeerSettings| peers.iter().find(|peer| peer.settings == *settings).cloned();
        let next =
            settings.iter().map(|settings| kept(settings).unwrap_or_else(|| Arc::new(Peer::new(settings.clone()))));
        *peers = next.collect();
        self.0.statuses.forget();
        self.0.targets.forget();
    }

    /// What each peer says of its servers, by name, at most [`DEADLINE`] later. `own` is the run of the daemon that asks.
    pub async fn statuses(&self, own: BootId) -> Vec<PeerReport> {
        let peers = self.all();
        let mut reports = self.0.statuses.join(peers, |peer| async move { peer.status().await }).await;
        tell_apart(&mut reports, own);
        reports
    }

    /// The targets of each peer, by name, at most [`DEADLINE`] later.
    pub async fn targets(&self) -> Vec<PeerTargets> {
        self.0.targets.join(self.all(), |peer| async move { peer.targets().await }).await
    }

    fn all(&self) -> Vec<Arc<Peer>> {
        lock(&self.0.peers).clone()
    }
}

/// Leaves out the servers of peers that are this daemon, and those that an earlier peer has shown already.
fn tell_apart(reports: &mut [PeerReport], own: BootId) {
    let mut seen: Vec<(BootId, String)> = Vec::new();
    for report in reports {
        let Some(boot) = report.status.as_ref().map(|status| status.boot) else { continue };
        let same = seen.iter().find(|(other, _)| *other == boot).map(|(_, name)| name.clone());
        let told = match same {
            _ if boot == own => Some((PeerProblem::Itself, "it is this daemon itself".to_owned())),
            Some(name) => Some((PeerProblem::Duplicate, format!("it is the daemon of peer {name}"))),
            None => None,
        };
        match told {
            Some((reason, detail)) => {
                peer::withhold(report, reason, detail, "remove it from [peers], or write another url")
            }
            None => seen.push((boot, report.name.clone())),
        }
    }
}
