//! Resolves profiles and reloads to fleets for the supervisor.
//!
//! It owns the configuration in force. A change that is refused changes nothing. A server that a change leaves as it was
//! is shared with the fleets of before, so that each exists once in memory.

use std::sync::{Arc, Mutex};

use llama_warden_config::{ConfigProblems, Fleet, HostEnvironment};
use llama_warden_events::{RefusalReason, Refused, ServerId};
use llama_warden_supervisor::{Change, FleetSource, Resolved};
use llama_warden_support::lock;
use serde_json::Value;

use crate::exit::{CommandFailure, FailureMessage};
use crate::load::LoadedConfig;
use crate::models::{AssignedPorts, Inventory, ModelsReport, PortFile};
use crate::token_file::TokenFile;

/// The configuration in force. Answers the supervisor and `/api/v1/models`.
pub struct FleetResolver {
    active: Mutex<ActiveConfiguration>,
    models: Mutex<Value>,
    ports: PortFile,
    /// Read again with each reload.
    token_file: Option<TokenFile>,
}

#[derive(Clone)]
struct ActiveConfiguration {
    loaded: LoadedConfig,
    profile: Option<String>,
    /// The only servers to start, until a profile is activated.
    only: Option<Vec<ServerId>>,
}

impl FleetResolver {
    /// Begins with the configuration of `inventory`, the requested profile (`None`: the configured one), and the
    /// only servers to start. Ports of discovered models are saved in `ports`.
    pub fn new(inventory: &Inventory, profile: Option<&str>, only: Option<Vec<ServerId>>, ports: PortFile) -> Self {
        let profile = inventory.loaded.configuration.active_profile(profile).map(str::to_owned);
        let active = ActiveConfiguration { loaded: inventory.loaded.clone(), profile, only };
        Self { active: Mutex::new(active), models: Mutex::new(to_json(&inventory.models)), ports, token_file: None }
    }

    /// With the file of the API token, which a reload reads too.
    #[must_use]
    pub fn rereading(self, token_file: Option<TokenFile>) -> Self {
        Self { token_file, ..self }
    }

    /// The resolver as the supervisor calls it.
    pub fn source(self: Arc<Self>) -> FleetSource {
        Arc::new(move |change| self.resolve(change))
    }

    /// The models that discovery found at the start or the latest reload, as JSON.
    pub fn models(&self) -> Value {
        lock(&self.models).clone()
    }

    /// Resolves a change. A change that resolves replaces the configuration in force, unless it is a preview.
    fn resolve(&self, change: &Change) -> Result<Resolved, Refused> {
        // Held throughout, so that changes apply one after the other: a reload reads files, which takes its time.
        let mut active = lock(&self.active);
        let with_profile = |profile: &Option<String>| ActiveConfiguration {
            loaded: active.loaded.clone(),
            profile: profile.clone(),
            only: None,
        };
        match change {
            Change::Preview(profile) => with_profile(profile).resolve(),
            Change::Profile(profile) => {
                let next = with_profile(profile);
                let resolved = next.resolve()?;
                *active = next;
                Ok(resolved)
            }
            Change::Reload => {
                self.token_file.iter().for_each(TokenFile::reread);
                let (next, resolved) = self.reload(&active)?;
                *active = next;
                Ok(resolved)
            }
        }
    }

    fn reload(&self, active: &ActiveConfiguration) -> Result<(ActiveConfiguration, Resolved), Refused> {
        let inventory = active.loaded.reload().and_then(Inventory::scan).map_err(refuse_invalid)?;
        let before = active.fleet().unwrap_or_default();
        let Inventory { loaded, models, ports } = inventory.compacted(Some(active.profile()), &before);
        let next = ActiveConfiguration { loaded, ..active.clone() };
        let resolved = next.resolve().map_err(|refused| {
            let detail = format!("the active profile is not in it any more: {}", refused.detail);
            Refused::new(RefusalReason::InvalidConfiguration, detail)
        })?;
        for section in active.loaded.configuration.changes_at_restart(&next.loaded.configuration) {
            tracing::warn!(section, "a change takes effect when the daemon starts again");
        }
        models.log();
        save_ports(&self.ports, &ports);
        *lock(&self.models) = to_json(&models);
        Ok((next, resolved))
    }
}

impl ActiveConfiguration {
    /// The profile for [`llama_warden_config::Configuration::resolve`]: an empty name is no profile, whatever `daemon.profile` says.
    fn profile(&self) -> &str {
        self.profile.as_deref().unwrap_or("")
    }

    fn fleet(&self) -> Result<Fleet, ConfigProblems> {
        self.loaded.configuration.resolve(Some(self.profile()), &HostEnvironment::current())
    }

    fn resolve(&self) -> Result<Resolved, Refused> {
        let unknown = |problems: ConfigProblems| {
            let messages: Vec<_> = problems.0.into_iter().map(|problem| problem.message).collect();
            Refused::new(RefusalReason::UnknownProfile, messages.join("\n"))
        };
        let fleet = enable_only(self.fleet().map_err(unknown)?, self.only.as_deref());
        Ok(Resolved { fleet, profile: self.profile.clone(), profiles: self.loaded.configuration.profiles() })
    }
}

/// The fleet with only these servers enabled; unchanged for `None`.
pub fn enable_only(fleet: Fleet, only: Option<&[ServerId]>) -> Fleet {
    match only {
        None => fleet,
        Some(only) => Fleet::new(fleet.iter().map(|spec| spec.enabled_as(only.contains(&spec.id)))),
    }
}

/// Saves ports for the next run. A failure is only logged: discovered servers may get other ports next time.
pub fn save_ports(file: &PortFile, ports: &AssignedPorts) {
    if let Err(error) = file.write(ports) {
        tracing::warn!(%error, "cannot save the ports of discovered models; they may change at the next start");
    }
}

fn to_json(report: &ModelsReport) -> Value {
    serde_json::to_value(report).unwrap_or_default()
}

fn refuse_invalid(failure: CommandFailure) -> Refused {
    let detail = match failure.message {
        FailureMessage::Configuration(problems) => problems.to_string(),
        FailureMessage::Text { message, .. } => message,
        FailureMessage::Problem(problem) => problem.detail,
        FailureMessage::AlreadyPrinted => "it cannot be read".to_owned(),
    };
    Refused::new(RefusalReason::InvalidConfiguration, detail)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use llama_warden_config::{ConfigSource, Environment};

    use super::*;

    const TEXT: &str = "[[servers]]\nid='a'\nmodel='a.gguf'\n[[servers]]\nid='b'\nmodel='b.gguf'\nenabled=false\n[profiles.two]\nservers=['b']\n";

    /// The source of a file in a folder, begun with a profile and the only servers to start.
    fn source_of(folder: &Path, profile: Option<&str>, only: Option<Vec<ServerId>>) -> FleetSource {
        let file = folder.join("llama-warden.toml");
        std::fs::write(&file, TEXT).expect("writable");
        let source = ConfigSource::read(&file, folder).expect("readable");
        let loaded = LoadedConfig::parse(&source, Environment::default()).expect("valid");
        let inventory = Inventory { loaded, models: ModelsReport::default(), ports: Default::default() };
        let inventory = inventory.compacted(profile, &Fleet::default());
        Arc::new(FleetResolver::new(&inventory, profile, only, PortFile::new(folder))).source()
    }

    fn enabled(resolved: &Resolved) -> Vec<String> {
        resolved.fleet.iter().filter(|spec| spec.enabled).map(|spec| spec.id.to_string()).collect()
    }

    fn two() -> Option<String> {
        Some("two".to_owned())
    }

    #[test]
    fn a_profile_enables_its_servers_and_none_the_enabled_ones() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let source = source_of(folder.path(), None, None);
        let resolved = source(&Change::Profile(two())).expect("known");
        assert_eq!((enabled(&resolved), resolved.profile.as_deref()), (vec!["b".to_owned()], Some("two")));
        assert_eq!(enabled(&source(&Change::Profile(None)).expect("always there")), ["a"]);
        let refused = source(&Change::Profile(Some("twoo".to_owned()))).expect_err("unknown");
        assert_eq!(refused.reason, RefusalReason::UnknownProfile);
    }

    #[test]
    fn a_preview_changes_nothing() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let source = source_of(folder.path(), None, None);
        assert_eq!(enabled(&source(&Change::Preview(two())).expect("known")), ["b"]);
        let reloaded = source(&Change::Reload).expect("valid");
        assert_eq!((enabled(&reloaded), reloaded.profile), (vec!["a".to_owned()], None));
    }

    #[test]
    fn a_reload_keeps_the_profile_and_a_bad_file_changes_nothing() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = folder.path().join("llama-warden.toml");
        let source = source_of(folder.path(), Some("two"), None);
        std::fs::write(&file, TEXT.replace("id='a'", "id='c'")).expect("writable");
        let reloaded = source(&Change::Reload).expect("valid");
        assert_eq!((enabled(&reloaded), reloaded.fleet.get("c").is_some()), (vec!["b".to_owned()], true));
        for (bad, told) in [("[[servers]]\nid=1\n", "llama-warden.toml:2"), ("", "the active profile is not in it")] {
            std::fs::write(&file, bad).expect("writable");
            let refused = source(&Change::Reload).expect_err("invalid");
            assert_eq!(refused.reason, RefusalReason::InvalidConfiguration);
            assert!(refused.detail.contains(told), "{}", refused.detail);
        }
        let still = source(&Change::Profile(None)).expect("in force");
        assert!(still.fleet.get("c").is_some());
    }

    #[test]
    fn a_server_that_a_reload_does_not_change_is_kept_once() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let source = source_of(folder.path(), None, None);
        let before = source(&Change::Profile(None)).expect("always there").fleet;
        let text = TEXT.replace("b.gguf", "other.gguf");
        std::fs::write(folder.path().join("llama-warden.toml"), text).expect("writable");
        let after = source(&Change::Reload).expect("valid").fleet;
        let is_kept = |id: &str| Arc::ptr_eq(before.get(id).expect("known"), after.get(id).expect("known"));
        assert_eq!((is_kept("a"), is_kept("b")), (true, false));
    }

    #[test]
    fn the_servers_that_alone_are_started_stay_so_until_a_profile_is_activated() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let b = ServerId::new("b").expect("valid");
        let source = source_of(folder.path(), None, Some(vec![b]));
        assert_eq!(enabled(&source(&Change::Reload).expect("valid")), ["b"]);
        assert_eq!(enabled(&source(&Change::Profile(None)).expect("always there")), ["a"]);
        assert_eq!(enabled(&source(&Change::Reload).expect("valid")), ["a"]);
    }
}
