//! `[peers]`: checks of what the tables say together, and their settings.

use std::collections::BTreeMap;

use llama_warden_events::ServerId;
use llama_warden_fleet::PeerSettings;

use crate::resolve::cross_checks::CrossChecker;
use crate::resolve::defaults::SpecBuilder;

/// Most peers: all of them are asked at once.
const MOST: usize = 64;

impl CrossChecker<'_> {
    /// Checks the name and the address of every peer, and that no two are one.
    pub(crate) fn peers(&mut self) {
        let Some(peers) = &self.file.peers else { return };
        if peers.value.len() > MOST {
            self.refuse(&peers.location, format!("there are more than {MOST} peers"), "leave some out");
        }
        let mut known: BTreeMap<String, &str> = BTreeMap::new();
        for (name, peer) in &peers.value {
            if !ServerId::new(name).is_ok_and(|name| !name.is_canary()) {
                let message = format!("`{}` is not the name of a peer", name.escape_debug());
                self.refuse(&peer.location, message, "a name is 1 to 64 letters, digits, `.`, `_` and `-`");
            }
            match &peer.value.url {
                Some(url) => {
                    if let Some(other) = known.insert(url.value.to_string(), name) {
                        let message = format!("peer `{name}` has the address of peer `{other}`");
                        self.refuse(&url.location, message, "write its own, or remove one of the two");
                    }
                }
                None if self.written.contains(&format!("peers.{name}.url")) => {}
                None => {
                    let message = format!("peer `{name}` has no key `url`");
                    self.refuse(&peer.location, message, "add url = \"http://HOST:PORT\"");
                }
            }
        }
    }
}

impl SpecBuilder<'_> {
    /// The peers that have an address, by name.
    pub(crate) fn peers(&self) -> Vec<PeerSettings> {
        let peers = self.file.peers.iter().flat_map(|peers| &peers.value);
        let settings = peers.filter_map(|(name, peer)| {
            let url = peer.value.url.as_ref()?.value.clone();
            Some(PeerSettings { name: name.clone(), url, token_file: self.path_or_none(&peer.value.token_file) })
        });
        settings.collect()
    }
}
