//! Where the supervisor gets fleets from: the configuration in force, and the files that it came from.

use std::sync::{Arc, Mutex, PoisonError};

use llama_warden_api::ModelsSource;
use llama_warden_config::{ConfigProblems, Configuration, Fleet, HostEnvironment};
use llama_warden_events::{ProfileCard, RefusalReason, Refused, ServerId};
use llama_warden_supervisor::{Change, FleetSource, Resolved};
use serde_json::Value;

use crate::exit::{Failure, Told};
use crate::load::Loaded;
use crate::models::{Inventory, ModelsReport, PortBook};

/// What answers while the daemon runs.
pub struct Sources {
    /// For the supervisor.
    pub fleet: FleetSource,
    /// For `/api/v1/models`.
    pub models: ModelsSource,
}

/// What is in force.
#[derive(Clone)]
struct InForce {
    loaded: Loaded,
    profile: Option<String>,
    only: Option<Vec<ServerId>>,
}

impl InForce {
    /// The profile for [`Configuration::resolve`]: an empty name is none, whatever `daemon.profile` says.
    fn profile(&self) -> &str {
        self.profile.as_deref().unwrap_or("")
    }

    fn fleet(&self) -> Result<Fleet, ConfigProblems> {
        self.loaded.configuration.resolve(Some(self.profile()), &HostEnvironment::current())
    }
}

/// Sources that start with an inventory, the profile that was asked for, and the servers that alone are started until a
/// profile is activated. Ports are kept in `ports`.
pub fn sources(inventory: &Inventory, profile: Option<&str>, only: Option<Vec<ServerId>>, ports: PortBook) -> Sources {
    let in_force = Mutex::new(InForce {
        loaded: inventory.loaded.clone(),
        profile: inventory.loaded.configuration.active_profile(profile).map(str::to_owned),
        only,
    });
    let models = Arc::new(Mutex::new(json(&inventory.models)));
    let found = models.clone();
    let fleet = move |change: &Change| {
        let mut in_force = in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let next = |profile: &Option<String>| InForce { profile: profile.clone(), only: None, ..in_force.clone() };
        match change {
            Change::Preview(profile) => resolve(&next(profile)),
            Change::Profile(profile) => {
                let next = next(profile);
                let resolved = resolve(&next)?;
                *in_force = next;
                Ok(resolved)
            }
            Change::Reload => {
                let inventory = in_force.loaded.again().and_then(Inventory::take).map_err(invalid)?;
                let before = in_force.fleet().unwrap_or_default();
                let inventory = inventory.resting(Some(in_force.profile()), &before);
                let next = InForce { loaded: inventory.loaded, ..in_force.clone() };
                let resolved = resolve(&next).map_err(|refused| {
                    let detail = format!("the active profile is not in it any more: {}", refused.detail);
                    Refused::new(RefusalReason::InvalidConfiguration, detail)
                })?;
                warn_of_what_waits(&in_force.loaded.configuration, &next.loaded.configuration);
                inventory.models.log();
                keep(&ports, &inventory.ports);
                *found.lock().unwrap_or_else(PoisonError::into_inner) = json(&inventory.models);
                *in_force = next;
                Ok(resolved)
            }
        }
    };
    let models = move || models.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Sources { fleet: Arc::new(fleet), models: Arc::new(models) }
}

/// The fleet to begin with: of the enabled servers only these, where some are named.
pub fn only(fleet: Fleet, only: Option<&[ServerId]>) -> Fleet {
    match only {
        None => fleet,
        Some(only) => Fleet::new(fleet.iter().map(|spec| spec.enabled_as(only.contains(&spec.id)))),
    }
}

/// Keeps ports for the next run. The daemon runs well without; its servers may have other ports next time.
pub fn keep(book: &PortBook, ports: &crate::models::Ports) {
    if let Err(error) = book.keep(ports) {
        tracing::warn!(%error, "the ports of discovered models cannot be kept; they may be others after a restart");
    }
}

/// The profiles of a configuration, as events carry them.
pub fn profiles(configuration: &Configuration) -> Vec<ProfileCard> {
    let card = |profile: llama_warden_config::ProfileSummary| ProfileCard {
        name: profile.name,
        description: profile.description,
        servers: profile.servers,
    };
    configuration.profiles().into_iter().map(card).collect()
}

fn json(report: &ModelsReport) -> Value {
    serde_json::to_value(report).unwrap_or_default()
}

fn invalid(failure: Failure) -> Refused {
    let detail = match failure.told {
        Told::Configuration(problems) => problems.to_string(),
        Told::Text { message, .. } => message,
        Told::Nothing => "it cannot be read".to_owned(),
    };
    Refused::new(RefusalReason::InvalidConfiguration, detail)
}

/// What the daemon itself is made of stays as it is until it starts again.
fn warn_of_what_waits(old: &Configuration, new: &Configuration) {
    for section in old.changes_at_restart(new) {
        tracing::warn!(section, "a change takes effect when the daemon starts again");
    }
}

fn resolve(next: &InForce) -> Result<Resolved, Refused> {
    let unknown = |problems: ConfigProblems| {
        let texts: Vec<_> = problems.0.into_iter().map(|problem| problem.message).collect();
        Refused::new(RefusalReason::UnknownProfile, texts.join("\n"))
    };
    let fleet = only(next.fleet().map_err(unknown)?, next.only.as_deref());
    Ok(Resolved { fleet, profile: next.profile.clone(), profiles: profiles(&next.loaded.configuration) })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use llama_warden_config::{ConfigSource, Environment};

    use super::*;

    const TEXT: &str = "[[servers]]\nid='a'\nmodel='a.gguf'\n[[servers]]\nid='b'\nmodel='b.gguf'\nenabled=false\n[profiles.two]\nservers=['b']\n";

    /// Sources of a file in a folder, and the profile that is asked for.
    fn sources_of(folder: &Path, profile: Option<&str>, only: Option<Vec<ServerId>>) -> Sources {
        let file = folder.join("llama-warden.toml");
        std::fs::write(&file, TEXT).expect("writable");
        let source = ConfigSource::read(&file, folder).expect("readable");
        let loaded = Loaded::parse(&source, Environment::default()).expect("valid");
        let inventory = Inventory { loaded, models: ModelsReport::default(), ports: Default::default() };
        sources(&inventory.resting(profile, &Fleet::default()), profile, only, PortBook::new(folder))
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
        let source = sources_of(folder.path(), None, None).fleet;
        let resolved = source(&Change::Profile(two())).expect("known");
        assert_eq!((enabled(&resolved), resolved.profile.as_deref()), (vec!["b".to_owned()], Some("two")));
        assert_eq!(enabled(&source(&Change::Profile(None)).expect("always there")), ["a"]);
        let refused = source(&Change::Profile(Some("twoo".to_owned()))).expect_err("unknown");
        assert_eq!(refused.reason, RefusalReason::UnknownProfile);
    }

    #[test]
    fn a_preview_changes_nothing() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let source = sources_of(folder.path(), None, None).fleet;
        assert_eq!(enabled(&source(&Change::Preview(two())).expect("known")), ["b"]);
        let reloaded = source(&Change::Reload).expect("valid");
        assert_eq!((enabled(&reloaded), reloaded.profile), (vec!["a".to_owned()], None));
    }

    #[test]
    fn a_reload_keeps_the_profile_and_a_bad_file_changes_nothing() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = folder.path().join("llama-warden.toml");
        let source = sources_of(folder.path(), Some("two"), None).fleet;
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
        let source = sources_of(folder.path(), None, None).fleet;
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
        let source = sources_of(folder.path(), None, Some(vec![b])).fleet;
        assert_eq!(enabled(&source(&Change::Reload).expect("valid")), ["b"]);
        assert_eq!(enabled(&source(&Change::Profile(None)).expect("always there")), ["a"]);
        assert_eq!(enabled(&source(&Change::Reload).expect("valid")), ["a"]);
    }
}
