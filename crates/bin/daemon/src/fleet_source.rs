//! Resolves profiles and reloads to fleets for the supervisor.
//!
//! It owns the configuration in force, and the executables that run in place of configured ones. A change that is refused changes nothing. A server that a change leaves as it was
//! is shared with the fleets of before, so that each exists once in memory.

use std::sync::{Arc, Mutex};

use llama_warden_api::ModelsSource;
use llama_warden_canary::BuildOverrides;
use llama_warden_config::{
    ConfigProblems, ConfigSource, Configuration, Environment, Fleet, HostEnvironment, SourceKind,
};
use llama_warden_events::{RefusalReason, Refused, ServerId};
use llama_warden_exit::{CommandFailure, FailureMessage};
use llama_warden_inventory::{
    FormerModels, Inventory, KeptServers, LoadedConfig, ModelsReport, PortFile, another_port,
};
use llama_warden_peers::Peers;
use llama_warden_supervisor::{Caution, Change, FleetSource, Resolved};
use llama_warden_support::{fail_point, lock};
use serde_json::Value;

use crate::keys_file::KeysFile;
use crate::reread_file::RereadFile;
use crate::token_file::TokenFile;

/// Most bytes that are kept of the problems of a refused configuration: each answer with the status has them.
const MOST_DETAIL: usize = 4 << 10;

/// The configuration in force. Answers the supervisor and `/api/v1/models`.
pub struct FleetResolver {
    active: Mutex<ActiveConfiguration>,
    models: Mutex<Arc<ModelsReport>>,
    ports: PortFile,
    read: LatestText,
    /// Read again with each reload.
    token_file: Option<TokenFile>,
    /// Read again with each reload.
    keys_file: Option<KeysFile>,
    /// Follow the configuration in force.
    peers: Peers,
    builds: Mutex<BuildOverrides>,
}

/// The text of the configuration file as it was read last, accepted or not; `None` if it could not be read. Whoever finds
/// another one in the file knows that nobody has seen it yet.
#[derive(Debug, Clone)]
pub struct LatestText(Arc<Mutex<Option<Arc<str>>>>);

impl LatestText {
    /// Begins with the text that the daemon started with.
    pub fn new(text: Arc<str>) -> Self {
        Self(Arc::new(Mutex::new(Some(text))))
    }

    /// Whether the file, which now contains `text`, is as it was read last.
    pub fn is(&self, text: Option<&str>) -> bool {
        lock(&self.0).as_deref() == text
    }

    pub(crate) fn set(&self, text: Option<Arc<str>>) {
        *lock(&self.0) = text;
    }
}

#[derive(Clone)]
struct ActiveConfiguration {
    loaded: LoadedConfig,
    profile: Option<String>,
    /// The only servers to start, until a profile is activated.
    only: Option<Vec<ServerId>>,
    /// What was chosen for servers.
    kept: Arc<KeptServers>,
}

impl FleetResolver {
    /// Begins with the configuration of `inventory`, the requested profile (`None`: the configured one), and the
    /// only servers to start. Ports of discovered models are saved in `ports`.
    pub fn new(inventory: &Inventory, profile: Option<&str>, only: Option<Vec<ServerId>>, ports: PortFile) -> Self {
        let profile = inventory.loaded.configuration.active_profile(profile).map(str::to_owned);
        let kept = Arc::new(inventory.kept.clone());
        let active = ActiveConfiguration { loaded: inventory.loaded.clone(), profile, only, kept };
        let read = LatestText::new(inventory.loaded.source.text.clone());
        Self {
            active: Mutex::new(active),
            models: Mutex::new(Arc::new(inventory.models.clone())),
            ports,
            read,
            token_file: None,
            keys_file: None,
            peers: Peers::default(),
            builds: Mutex::new(BuildOverrides::none()),
        }
    }

    /// With the files of the API token and of the router's keys, which a reload reads too.
    #[must_use]
    pub fn rereading(self, token_file: Option<TokenFile>, keys_file: Option<KeysFile>) -> Self {
        Self { token_file, keys_file, ..self }
    }

    /// With the peers that a reload replaces.
    #[must_use]
    pub fn telling(self, peers: Peers) -> Self {
        Self { peers, ..self }
    }

    /// With these executables in place of configured ones.
    #[must_use]
    pub fn overriding(self, builds: BuildOverrides) -> Self {
        Self { builds: Mutex::new(builds), ..self }
    }

    /// The configuration in force.
    pub fn loaded(&self) -> LoadedConfig {
        lock(&self.active).loaded.clone()
    }

    /// The daemons of other machines, by the configuration in force.
    pub fn peers(&self) -> Peers {
        self.peers.clone()
    }

    /// The text that reloads have read.
    pub fn latest_text(&self) -> LatestText {
        self.read.clone()
    }

    /// The resolver as the supervisor calls it.
    pub fn source(self: Arc<Self>) -> FleetSource {
        Arc::new(move |change| self.resolve(change))
    }

    /// The resolver as the API calls it.
    pub fn models_source(self: Arc<Self>) -> ModelsSource {
        Arc::new(move || self.models())
    }

    /// The models that discovery found at the start or the latest reload, as JSON.
    fn models(&self) -> Value {
        let models = Arc::clone(&lock(&self.models));
        serde_json::to_value(&*models).unwrap_or_default()
    }

    /// Resolves a change. A change that resolves replaces the configuration in force, unless it is a preview.
    fn resolve(&self, change: &Change) -> Result<Resolved, Refused> {
        let resolved = self.resolve_configured(change)?;
        let mut builds = lock(&self.builds);
        if let Change::Build(server, change) = change {
            builds.change(server, change, &resolved.fleet)?;
        }
        Ok(Resolved { fleet: builds.apply(&resolved.fleet), ..resolved })
    }

    /// The same with the executables that the configuration names.
    fn resolve_configured(&self, change: &Change) -> Result<Resolved, Refused> {
        // Held throughout, so that changes apply one after the other: a reload reads files, which takes its time.
        let mut active = lock(&self.active);
        let with_profile =
            |profile: &Option<String>| ActiveConfiguration { profile: profile.clone(), only: None, ..active.clone() };
        match change {
            Change::Build(..) => active.resolve(),
            Change::Preview(profile) => with_profile(profile).resolve(),
            Change::Profile(profile) => {
                let next = with_profile(profile);
                let resolved = next.resolve()?;
                *active = next;
                Ok(resolved)
            }
            Change::Reload(caution) => {
                self.token_file.iter().for_each(RereadFile::reread);
                self.keys_file.iter().for_each(RereadFile::reread);
                let (next, resolved) = self.reload(&active, caution)?;
                self.peers.set(next.loaded.configuration.peers());
                *active = next;
                fail_point("reload-in-force");
                Ok(resolved)
            }
            Change::Port(server) => {
                let (next, resolved) = self.move_server(&active, server)?;
                *active = next;
                Ok(resolved)
            }
        }
    }

    /// Reads the file of the configuration again. Without one, only the folders of models are searched again.
    fn read_again(&self, source: &ConfigSource) -> Result<ConfigSource, Refused> {
        if source.kind != SourceKind::File && !source.model_dirs.is_empty() {
            return Ok(source.clone());
        }
        let Some(read) = source.read_again() else {
            let detail = match &source.path {
                Some(path) => {
                    format!("{} was read once, at the start: it is no file that can be read again", path.display())
                }
                None => "the daemon was started without a configuration file".to_owned(),
            };
            return Err(Refused::new(RefusalReason::NotReloadable, detail));
        };
        // At once, not when the change is in force: a file that is refused is not news either.
        self.read.set(read.as_ref().ok().map(|source| source.text.clone()));
        read.map_err(|problems| refuse_invalid(problems.into()))
    }

    fn move_server(
        &self,
        active: &ActiveConfiguration,
        server: &ServerId,
    ) -> Result<(ActiveConfiguration, Resolved), Refused> {
        let configuration = &active.loaded.configuration;
        let port = another_port(configuration, server, &active.kept)
            .map_err(|why| Refused::new(RefusalReason::UnknownServer, why))?;
        let configuration = Arc::new(Configuration::clone(configuration).with_port(server, port));
        let mut kept = KeptServers::clone(&active.kept);
        kept.entry(server.clone()).and_modify(|kept| kept.port = port);
        save_ports(&self.ports, &kept);
        let mut models = lock(&self.models);
        *models = Arc::new(ModelsReport::clone(&models).with_port(server, port));
        let loaded = LoadedConfig { configuration, ..active.loaded.clone() };
        let next = ActiveConfiguration { loaded, kept: Arc::new(kept), ..active.clone() };
        let resolved = next.resolve()?;
        Ok((next, resolved))
    }

    fn reload(
        &self,
        active: &ActiveConfiguration,
        caution: &Caution,
    ) -> Result<(ActiveConfiguration, Resolved), Refused> {
        let source = self.read_again(&active.loaded.source)?;
        fail_point("reload-read");
        let loaded = LoadedConfig::parse(&source, Environment::current());
        let models = Arc::clone(&lock(&self.models));
        let former = FormerModels { models: &models, configuration: &active.loaded.configuration };
        // A forced reload takes what it finds: it is the way to be rid of models whose folder does not come back.
        let former = (*caution != Caution::Forced).then_some(former);
        let inventory =
            loaded.and_then(|loaded| Inventory::scan_again(loaded, &active.kept, former)).map_err(refuse_invalid)?;
        let before = active.fleet().unwrap_or_default();
        let Inventory { loaded, models, kept, .. } = inventory.compacted(Some(active.profile()), &before);
        let next = ActiveConfiguration { loaded, kept: Arc::new(kept), ..active.clone() };
        let resolved = next.resolve().map_err(|refused| {
            let detail = format!("the active profile is not in it any more: {}", refused.detail);
            Refused::new(RefusalReason::InvalidConfiguration, detail)
        })?;
        if *caution != Caution::Forced
            && let Some(doubt) = active.cut_off(&next, &resolved).or_else(|| caution.doubt(&resolved))
        {
            let detail = format!("the configuration looks half written: {doubt}");
            return Err(Refused::new(RefusalReason::DoubtfulConfiguration, detail));
        }
        for section in active.loaded.configuration.changes_at_restart(&next.loaded.configuration) {
            tracing::warn!(section, "a change takes effect when the daemon starts again");
        }
        fail_point("reload-resolved");
        models.log();
        save_ports(&self.ports, &next.kept);
        *lock(&self.models) = Arc::new(models);
        Ok((next, resolved))
    }
}

impl ActiveConfiguration {
    /// The profile for [`llama_warden_config::Configuration::resolve`]: an empty name is no profile, whatever `daemon.profile` says.
    fn profile(&self) -> &str {
        self.profile.as_deref().unwrap_or("")
    }

    fn fleet(&self) -> Result<Fleet, ConfigProblems> {
        let fleet = self.loaded.configuration.resolve(Some(self.profile()), &HostEnvironment::current())?;
        Ok(self.loaded.with_slot_folders(fleet))
    }

    /// Why the text of `next` looks cut off: it ends where the one in force goes on, and what is missing matters. A writer
    /// that is interrupted, or that finds the disk full, leaves such a file.
    fn cut_off(&self, next: &Self, resolved: &Resolved) -> Option<String> {
        let (before, after) = (&*self.loaded.source.text, &*next.loaded.source.text);
        let is_prefix = || {
            let (before, after) = (before.trim_end(), after.trim_end());
            after.len() < before.len() && before.starts_with(after)
        };
        let is_same = || {
            self.resolve().is_ok_and(|now| now.fleet == resolved.fleet && now.profiles == resolved.profiles)
                && self.loaded.configuration.changes_at_restart(&next.loaded.configuration).is_empty()
        };
        let lines = after.trim_end().lines().count();
        if is_prefix() {
            return (!is_same()).then(|| match lines {
                0 => "it is empty".to_owned(),
                lines => format!("it ends after line {lines}, where the one in force goes on"),
            });
        }
        // A file that is changed above the cut is no prefix, but it has lost the end of its last line, and servers.
        let lost_line_end = before.ends_with('\n') && !after.is_empty() && !after.ends_with('\n');
        let lost = |fleet: Fleet| fleet.iter().find(|spec| resolved.fleet.get(spec.id.as_str()).is_none()).cloned();
        let lost = lost_line_end.then(|| self.fleet().ok().and_then(lost)).flatten()?;
        Some(format!("it ends in line {lines} without a line feed, and {} is missing", lost.id))
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

/// Saves ports and ids for the next run. A failure is only logged: servers may get other ports next time.
pub fn save_ports(file: &PortFile, kept: &KeptServers) {
    if let Err(error) = file.write(kept) {
        tracing::warn!(%error, "cannot save the ports of servers that name none; they may change at the next start");
    }
}

fn refuse_invalid(failure: CommandFailure) -> Refused {
    let detail = match failure.message {
        FailureMessage::Configuration(problems) => problems.within(MOST_DETAIL),
        FailureMessage::Text { message, .. } => message,
        FailureMessage::Problem(problem) => problem.detail,
        FailureMessage::AlreadyPrinted => "it cannot be read".to_owned(),
    };
    Refused::new(RefusalReason::InvalidConfiguration, detail)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use llama_warden_supervisor::FleetActivity;

    use super::*;

    const TEXT: &str = "[[servers]]\nid='a'\nport=8001\nmodel='a.gguf'\n[[servers]]\nid='b'\nport=8002\nmodel='b.gguf'\nenabled=false\n[profiles.two]\nservers=['b']\n";

    /// The source of a file in a folder, begun with a profile and the only servers to start.
    fn source_of(folder: &Path, profile: Option<&str>, only: Option<Vec<ServerId>>) -> FleetSource {
        let file = folder.join("llama-warden.toml");
        std::fs::write(&file, TEXT).expect("writable");
        let source = ConfigSource::read(&file, folder).expect("readable");
        let loaded = LoadedConfig::parse(&source, Environment::default()).expect("valid");
        let inventory = Inventory {
            loaded,
            models: ModelsReport::default(),
            kept: Default::default(),
            inspections: Default::default(),
        };
        let inventory = inventory.compacted(profile, &Fleet::default());
        Arc::new(FleetResolver::new(&inventory, profile, only, PortFile::new(folder))).source()
    }

    fn enabled(resolved: &Resolved) -> Vec<String> {
        resolved.fleet.iter().filter(|spec| spec.enabled).map(|spec| spec.id.to_string()).collect()
    }

    fn reload() -> Change {
        Change::Reload(Caution::Guarded(FleetActivity::default()))
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
        let reloaded = source(&reload()).expect("valid");
        assert_eq!((enabled(&reloaded), reloaded.profile), (vec!["a".to_owned()], None));
    }

    #[test]
    fn a_reload_keeps_the_profile_and_a_bad_file_changes_nothing() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = folder.path().join("llama-warden.toml");
        let source = source_of(folder.path(), Some("two"), None);
        std::fs::write(&file, TEXT.replace("id='a'", "id='c'")).expect("writable");
        let reloaded = source(&reload()).expect("valid");
        assert_eq!((enabled(&reloaded), reloaded.fleet.get("c").is_some()), (vec!["b".to_owned()], true));
        for (bad, told) in [("[[servers]]\nid=1\n", "llama-warden.toml:2"), ("", "the active profile is not in it")] {
            std::fs::write(&file, bad).expect("writable");
            let refused = source(&reload()).expect_err("invalid");
            assert_eq!(refused.reason, RefusalReason::InvalidConfiguration);
            assert!(refused.detail.contains(told), "{}", refused.detail);
        }
        let still = source(&Change::Profile(None)).expect("in force");
        assert!(still.fleet.get("c").is_some());
    }

    #[test]
    fn a_file_that_has_lost_its_last_line_feed_and_servers_is_doubted() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let source = source_of(folder.path(), None, None);
        let one = "# changed above the cut\n[[servers]]\nid='a'\nmodel='a.gguf'";
        let write = |text: &str| std::fs::write(folder.path().join("llama-warden.toml"), text).expect("writable");
        write(one);
        let refused = source(&reload()).expect_err("half written");
        assert_eq!(refused.reason, RefusalReason::DoubtfulConfiguration);
        assert!(refused.detail.ends_with("it ends in line 4 without a line feed, and b is missing"), "{refused}");
        // A person who takes a server out, and an editor that writes no last line feed.
        for whole in [TEXT.trim_end(), &format!("{one}\n")] {
            write(whole);
            source(&reload()).expect("whole");
        }
    }

    #[test]
    fn of_the_problems_of_a_refused_configuration_four_kibibytes_are_kept() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let source = source_of(folder.path(), None, None);
        let bad = "[[servers]]\nid = 'x'\nmodel = 'm'\nport = 70000\nunheard-of = 1\n".repeat(1000);
        for bad in [bad, format!("[stop]\ngrace = '{}'\n", "x".repeat(60_000))] {
            std::fs::write(folder.path().join("llama-warden.toml"), bad).expect("writable");
            let detail = source(&reload()).expect_err("invalid").detail;
            assert!((50..=4200).contains(&detail.len()), "{} bytes: {detail}", detail.len());
        }
    }

    #[test]
    fn a_server_that_a_reload_does_not_change_is_kept_once() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let source = source_of(folder.path(), None, None);
        let before = source(&Change::Profile(None)).expect("always there").fleet;
        let text = TEXT.replace("b.gguf", "other.gguf");
        std::fs::write(folder.path().join("llama-warden.toml"), text).expect("writable");
        let after = source(&reload()).expect("valid").fleet;
        let is_kept = |id: &str| Arc::ptr_eq(before.get(id).expect("known"), after.get(id).expect("known"));
        assert_eq!((is_kept("a"), is_kept("b")), (true, false));
    }

    #[test]
    fn the_servers_that_alone_are_started_stay_so_until_a_profile_is_activated() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let b = ServerId::new("b").expect("valid");
        let source = source_of(folder.path(), None, Some(vec![b]));
        assert_eq!(enabled(&source(&reload()).expect("valid")), ["b"]);
        assert_eq!(enabled(&source(&Change::Profile(None)).expect("always there")), ["a"]);
        assert_eq!(enabled(&source(&reload()).expect("valid")), ["a"]);
    }
}
