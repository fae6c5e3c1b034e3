//! Less memory for a configuration that a daemon keeps for months.
//!
//! Every reload parses all servers anew, although most of them are what they were. Without this step a server would lie
//! in memory three times: in the configuration, in the fleet in force, and in the fleet that the components still use.

use std::collections::BTreeSet;
use std::sync::Arc;

use llama_warden_fleet::Fleet;

use crate::resolve::configuration::Configuration;
use llama_warden_fleet::HostEnvironment;

impl Configuration {
    /// Drops what only reports need, and shares one copy of each unchanged server between this configuration, the fleet
    /// that `profile` resolves to on `host`, and the `previous` fleet.
    ///
    /// Call [`Self::warnings`] and [`Self::with_discovered`] before: they need what this drops.
    #[must_use]
    pub fn dedup(mut self, profile: Option<&str>, host: &HostEnvironment, previous: &Fleet) -> Self {
        self.file.servers = None;
        self.written = BTreeSet::new();
        self.servers.shrink_to_fit();
        self.share_specs_of(previous);
        // An unknown profile shares nothing. The caller resolves the same profile next, and reports it then.
        if let Ok(in_force) = self.resolve(profile, host) {
            self.share_specs_of(&in_force);
        }
        self
    }

    /// Replaces each server by the one in `fleet` where the two differ only in what a resolution decides.
    fn share_specs_of(&mut self, fleet: &Fleet) {
        for server in &mut self.servers {
            if let Some(spec) = fleet.get(server.spec.id.as_str())
                && *server.spec.resolved(&spec.flags, spec.enabled) == **spec
            {
                server.spec = Arc::clone(spec);
            }
        }
    }
}
