//! Where the supervisor gets fleets from: the configuration in force, and the file that it came from.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use llama_warden_config::{Configuration, Host, Problems};
use llama_warden_events::{ProfileCard, RefusalReason, Refused};
use llama_warden_supervisor::{Change, FleetSource, Resolved};

use crate::exit::{Failure, Told};
use crate::load::Loaded;

/// What is in force.
struct InForce {
    configuration: Configuration,
    profile: Option<String>,
}

/// A source that starts with `loaded` and the profile that was asked for. `file` is read again for a reload; without
/// one (the demo) there is nothing to reload.
pub fn source(loaded: &Loaded, profile: Option<&str>, file: Option<PathBuf>) -> FleetSource {
    let in_force = InForce {
        configuration: loaded.configuration.clone(),
        profile: loaded.configuration.active_profile(profile).map(str::to_owned),
    };
    let in_force = Mutex::new(in_force);
    Arc::new(move |change| {
        let mut in_force = in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let next = match change {
            Change::Profile(profile) => {
                InForce { configuration: in_force.configuration.clone(), profile: profile.clone() }
            }
            Change::Reload => {
                let configuration = reload(file.clone())?;
                InForce { configuration, profile: in_force.profile.clone() }
            }
        };
        let resolved = resolve(&next)?;
        *in_force = next;
        Ok(resolved)
    })
}

/// The profiles of a configuration, as facts carry them.
pub fn profiles(configuration: &Configuration) -> Vec<ProfileCard> {
    let card = |profile: llama_warden_config::ProfileSummary| ProfileCard {
        name: profile.name,
        description: profile.description,
        servers: profile.servers,
    };
    configuration.profiles().into_iter().map(card).collect()
}

fn reload(file: Option<PathBuf>) -> Result<Configuration, Refused> {
    let invalid = |detail: String| Refused::new(RefusalReason::InvalidConfiguration, detail);
    let Some(file) = file else {
        return Err(invalid("the daemon was started without a configuration file".to_owned()));
    };
    match Loaded::find(Some(&file)) {
        Ok(loaded) => Ok(loaded.configuration),
        Err(Failure { told: Told::Configuration(problems), .. }) => Err(invalid(problems.to_string())),
        Err(Failure { told: Told::Text { message, .. }, .. }) => Err(invalid(message)),
        Err(Failure { told: Told::Nothing, .. }) => Err(invalid("it cannot be read".to_owned())),
    }
}

fn resolve(next: &InForce) -> Result<Resolved, Refused> {
    // An empty name is no profile, whatever `daemon.profile` says.
    let name = next.profile.as_deref().unwrap_or("");
    let unknown = |problems: Problems| Refused::new(RefusalReason::UnknownProfile, problems.to_string());
    let fleet = next.configuration.resolve(Some(name), &Host::current()).map_err(unknown)?;
    Ok(Resolved { fleet, profile: next.profile.clone(), profiles: profiles(&next.configuration) })
}

#[cfg(test)]
mod tests {
    use llama_warden_config::{Environment, Source};

    use super::*;

    const TEXT: &str = "[[servers]]\nid='a'\nmodel='a.gguf'\n[[servers]]\nid='b'\nmodel='b.gguf'\nenabled=false\n[profiles.two]\nservers=['b']\n";

    fn loaded(text: &str) -> Loaded {
        Loaded::parse(&Source::text("/", text), Environment::default()).unwrap_or_else(|failure| panic!("{failure:?}"))
    }

    fn enabled(resolved: &Resolved) -> Vec<String> {
        resolved.fleet.iter().filter(|spec| spec.enabled).map(|spec| spec.id.to_string()).collect()
    }

    #[test]
    fn a_profile_enables_its_servers_and_none_the_enabled_ones() {
        let source = source(&loaded(TEXT), None, None);
        let two = source(&Change::Profile(Some("two".to_owned()))).expect("known");
        assert_eq!((enabled(&two), two.profile.as_deref()), (vec!["b".to_owned()], Some("two")));
        assert_eq!(enabled(&source(&Change::Profile(None)).expect("always there")), ["a"]);
        let refused = source(&Change::Profile(Some("twoo".to_owned()))).expect_err("unknown");
        assert_eq!(refused.reason, RefusalReason::UnknownProfile);
    }

    #[test]
    fn a_reload_keeps_the_profile_and_a_bad_file_changes_nothing() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = folder.path().join("llama-warden.toml");
        let source = source(&loaded(TEXT), Some("two"), Some(file.clone()));
        std::fs::write(&file, TEXT.replace("id='a'", "id='c'")).expect("writable");
        let reloaded = source(&Change::Reload).expect("valid");
        assert_eq!((enabled(&reloaded), reloaded.fleet.get("c").is_some()), (vec!["b".to_owned()], true));
        std::fs::write(&file, "[[servers]]\nid=1\n").expect("writable");
        let refused = source(&Change::Reload).expect_err("invalid");
        assert_eq!(refused.reason, RefusalReason::InvalidConfiguration);
        assert!(refused.detail.contains("llama-warden.toml:2"), "{}", refused.detail);
        let still = source(&Change::Profile(None)).expect("in force");
        assert!(still.fleet.get("c").is_some());
    }
}
