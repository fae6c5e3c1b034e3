//! Finds the changes that a running daemon does not apply.

use std::collections::BTreeSet;

use crate::resolve::configuration::Configuration;

impl Configuration {
    /// The differences in `new` that take effect only when the daemon starts again: keys and sections as a user writes them,
    /// such as `[daemon]`, `logs.event-log` or `[extensions.pager]`.
    pub fn changes_at_restart(&self, new: &Self) -> Vec<String> {
        let sections = [
            ("[daemon]", self.daemon() != new.daemon()),
            ("[start]", self.start() != new.start()),
            ("[metrics]", self.metrics() != new.metrics()),
            ("[router]", self.router() != new.router()),
            ("logs.event-log", self.logs().event_log_bytes != new.logs().event_log_bytes),
            ("llama-server.dialects-dir", self.dialects_dir() != new.dialects_dir()),
            ("readiness.detectors-dir", self.detectors_dir() != new.detectors_dir()),
        ];
        let changed = sections.into_iter().filter(|(_, differs)| *differs).map(|(section, _)| section.to_owned());
        // A component reads its table when it is built. One that appears or disappears is a change, too.
        let names: BTreeSet<&str> = self.extensions().chain(new.extensions()).map(|(name, _)| name).collect();
        let extensions = names.into_iter().filter(|name| self.extension(name) != new.extension(name));
        changed.chain(extensions.map(|name| format!("[extensions.{name}]"))).collect()
    }
}
