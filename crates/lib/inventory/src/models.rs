//! Turns discovered models into servers, and gives servers ids and ports that stay.
//!
//! A configured server takes precedence over a model of the same path or id. Every other model becomes a server: enabled if
//! its folder was named on the command line; only startable, by id or by a profile, if its folder is in `models.dirs`.
//!
//! What was chosen for a server, because nobody configured it, stays with it: the id with the path of its model, the port
//! with the id. A new neighbour, or one that goes, changes neither.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use llama_warden_catalog::{
    CatalogReport, DirectoryLinks, DiscoveredModel, Inspections, ModelKind, ModelProblem, ProblemReason, discover,
};
use llama_warden_config::{
    ConfigProblem, ConfigProblems, Configuration, Discovered, DiscoveredServer, FlagValue, Fleet, HostEnvironment,
    ServerSpec,
};
use llama_warden_events::ServerId;
use llama_warden_exit::CommandFailure;
use llama_warden_state_files::{KeptServer, KeptServers, PortFile};

use crate::load::LoadedConfig;
use crate::ports::{PortSeeker, assign_ports, is_free};
use crate::report::{KnownModel, ModelsReport, display_name};

/// The folders to search, as absolute paths.
#[derive(Debug, Clone, Default)]
pub struct ModelFolders {
    /// Folders whose models become enabled servers.
    pub enabled: Vec<PathBuf>,
    /// Folders whose models become servers that are not enabled.
    pub known: Vec<PathBuf>,
}

impl ModelFolders {
    /// The folders that a configuration names, those of the command line included.
    pub fn of(loaded: &LoadedConfig) -> Self {
        let enabled = loaded.source.model_dirs.clone();
        let known = loaded.configuration.model_dirs().iter().skip(enabled.len()).cloned().collect();
        Self { enabled, known }
    }
}

/// A configuration with its discovered models.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// The configuration, including the servers of models.
    pub loaded: LoadedConfig,
    /// The models, for people and the API.
    pub models: ModelsReport,
    /// What was chosen for servers, to be saved.
    pub kept: KeptServers,
    /// What the models of servers are. A daemon keeps none.
    pub inspections: Inspections,
}

/// The result of a search for models.
#[derive(Debug)]
pub struct DiscoveryOutcome {
    /// Servers, tiers and ports to add to the configuration.
    pub discovered: Discovered,
    /// The models, for people and the API.
    pub report: ModelsReport,
    /// What was chosen for servers, including those that are gone for a while.
    pub kept: KeptServers,
    /// What the models of servers are that name no tier.
    pub inspections: Inspections,
}

/// What a running daemon found before. A folder whose disk is not mounted, or a file that cannot be read, changes none of it.
#[derive(Debug, Clone, Copy)]
pub struct FormerModels<'a> {
    /// The models.
    pub models: &'a ModelsReport,
    /// The configuration, with their tiers.
    pub configuration: &'a Configuration,
}

impl Inventory {
    /// Searches the model folders of a configuration and adds servers for what it finds. Writes nothing.
    ///
    /// # Errors
    /// A profile matches no server; there are fewer free ports than servers.
    pub fn scan(loaded: LoadedConfig) -> Result<Self, CommandFailure> {
        let kept = loaded.state_dir().map(|state| PortFile::new(&state).read()).unwrap_or_default();
        Self::scan_again(loaded, &kept, None)
    }

    /// As [`Self::scan`], for a daemon that runs: `kept` is what it chose for its servers, `former` what it found before.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub fn scan_again(
        loaded: LoadedConfig,
        kept: &KeptServers,
        former: Option<FormerModels<'_>>,
    ) -> Result<Self, CommandFailure> {
        let (inventory, problems) = Self::search(loaded, kept, former)?;
        if problems.is_empty() { Ok(inventory) } else { Err(ConfigProblems::sorted(problems).into()) }
    }

    /// Finds, parses and scans, and goes on after a problem, so that all are reported at once.
    ///
    /// # Errors
    /// Nothing of the configuration can be read, or there are fewer free ports than servers.
    pub fn examine(explicit: Option<&Path>) -> Result<(Self, ConfigProblems), CommandFailure> {
        let (loaded, ConfigProblems(mut problems)) = LoadedConfig::examine(explicit)?;
        let kept = loaded.state_dir().map(|state| PortFile::new(&state).read()).unwrap_or_default();
        let (inventory, more) = Self::search(loaded, &kept, None)?;
        problems.extend(more);
        Ok((inventory, ConfigProblems::sorted(problems)))
    }

    fn search(
        loaded: LoadedConfig,
        kept: &KeptServers,
        former: Option<FormerModels<'_>>,
    ) -> Result<(Self, Vec<ConfigProblem>), CommandFailure> {
        let DiscoveryOutcome { discovered, report, kept, inspections } =
            search(&loaded.configuration, &ModelFolders::of(&loaded), kept, former)?;
        let mut configuration = Arc::unwrap_or_clone(loaded.configuration);
        let problems = configuration.add_discovered(discovered);
        let loaded = LoadedConfig { configuration: Arc::new(configuration), ..loaded };
        Ok((Self { loaded, models: report, kept, inspections }, problems))
    }

    /// Everything that is valid and probably a mistake, in the configuration and in the models that it names.
    pub fn warnings(&self) -> Vec<ConfigProblem> {
        let fault = |path: &Path| {
            // The daemon may run as another user than this one, who may not read the file.
            let inspected = self.inspections.of(path);
            let readable = |problem: &&ModelProblem| problem.reason != ProblemReason::FileUnreadable;
            let problem = inspected.as_ref().as_ref().err().filter(readable)?;
            // The fault may be one of another shard.
            let is_here = Path::new(&problem.path) == path;
            let detail = if is_here { problem.detail.clone() } else { problem.to_string() };
            Some((detail, problem.help.clone()))
        };
        let configuration = &self.loaded.configuration;
        configuration.warnings().into_iter().chain(configuration.model_warnings(fault)).collect()
    }

    /// Reduces what the daemon holds for months: drops the text that only error messages need, and shares one copy of each
    /// server among the configuration, the fleet in force for `profile`, and the fleet `before`.
    #[must_use]
    pub fn compacted(mut self, profile: Option<&str>, before: &Fleet) -> Self {
        self.inspections = Inspections::default();
        let configuration = Arc::unwrap_or_clone(self.loaded.configuration);
        self.loaded.configuration = Arc::new(configuration.dedup(profile, &HostEnvironment::current(), before));
        self
    }
}

/// Searches `folders`, and reads the headers of the models that a configuration names. `kept` is what earlier runs chose.
///
/// # Errors
/// There are fewer free ports than servers.
pub fn discover_servers(
    configuration: &Configuration,
    folders: &ModelFolders,
    kept: &KeptServers,
) -> Result<DiscoveryOutcome, CommandFailure> {
    search(configuration, folders, kept, None)
}

/// As [`discover_servers`], for a daemon that found `former` before.
///
/// # Errors
/// As [`discover_servers`].
pub fn search(
    configuration: &Configuration,
    folders: &ModelFolders,
    kept: &KeptServers,
    former: Option<FormerModels<'_>>,
) -> Result<DiscoveryOutcome, CommandFailure> {
    let directories = [folders.enabled.clone(), folders.known.clone()].concat();
    let links = if configuration.follows_model_links() { DirectoryLinks::Followed } else { DirectoryLinks::Reported };
    let CatalogReport { mut models, skipped, problems } =
        if directories.is_empty() { CatalogReport::default() } else { discover(&directories, links) };
    if let Some(former) = former {
        let lost = out_of_sight(former.models, &models, &directories, &problems);
        if !lost.is_empty() {
            tracing::warn!(
                models = lost.len(),
                "the folders of these models cannot be read or are empty: their servers stay, until they are back or \
                 until `llama-warden reload --force`"
            );
        }
        models.extend(lost);
    }
    keep_ids(&mut models, kept);
    let configured: Vec<_> = configuration.servers().map(|spec| (spec, resolve_links(&spec.model))).collect();
    let inspections = Inspections::default();
    let tiers = tiers_of_servers(&configured, &models, former, &inspections);
    let by_path: BTreeMap<&Path, &ServerSpec> = configured.iter().rev().map(|(spec, path)| (&**path, *spec)).collect();
    let configured_ids: BTreeSet<&ServerId> = configured.iter().map(|(spec, _)| &spec.id).collect();
    let mut unclaimed = Vec::new();
    let mut claimed = Vec::new();
    for model in models {
        let path = resolve_links(&model.path);
        // A configured server takes precedence over a model that it runs, and over another model with its id.
        if let Some(spec) = by_path.get(&*path) {
            claimed.push((DiscoveredModel { enabled: spec.enabled, ..model }, Some(spec.id.clone())));
        } else if configured_ids.contains(&model.id) {
            claimed.push((DiscoveredModel { enabled: false, ..model }, None));
        } else {
            let enabled = folders.enabled.iter().any(|folder| model.path.starts_with(folder));
            unclaimed.push(DiscoveredModel { enabled, ..model });
        }
    }
    unclaimed.sort_by(|a, b| a.id.cmp(&b.id));
    let (chosen, kept) = choose_ports(&unclaimed, configuration, kept)?;
    for model in &mut unclaimed {
        model.port = chosen.get(&model.id).copied();
    }
    let ports: BTreeMap<ServerId, u16> =
        configuration.servers().map(|spec| (spec.id.clone(), *chosen.get(&spec.id).unwrap_or(&spec.port))).collect();
    let servers = unclaimed.iter().filter_map(to_server).collect();
    let claimed = claimed.into_iter().map(|(model, server)| {
        let port = server.as_ref().and_then(|server| ports.get(server).copied());
        KnownModel { model: DiscoveredModel { port, ..model }, server }
    });
    let known = unclaimed.into_iter().map(|model| KnownModel { server: Some(model.id.clone()), model });
    let mut models: Vec<_> = claimed.chain(known).collect();
    models.sort_by(|a, b| a.model.id.cmp(&b.model.id));
    let report = ModelsReport { directories, models, skipped, problems };
    Ok(DiscoveryOutcome { discovered: Discovered { servers, tiers, ports }, report, kept, inspections })
}

/// Gives each model the id that it had before: the one that discovery makes depends on the other models.
fn keep_ids(models: &mut [DiscoveredModel], kept: &KeptServers) {
    let by_path: BTreeMap<&Path, &ServerId> =
        kept.iter().filter_map(|(id, server)| Some((server.model.as_deref()?, id))).collect();
    let former = |model: &DiscoveredModel| by_path.get(model.path.as_path()).map(|id| (*id).clone());
    let mut taken: BTreeSet<ServerId> = models.iter().filter_map(former).collect();
    for model in models {
        model.id = match former(model) {
            Some(id) => id,
            None => free_id(&model.id, &taken),
        };
        taken.insert(model.id.clone());
    }
}

/// The id, with a number if another model has it already.
fn free_id(id: &ServerId, taken: &BTreeSet<ServerId>) -> ServerId {
    let numbered = (2_u32..).filter_map(|number| {
        let suffix = format!("_{number}");
        // Ids are ASCII.
        let stem = &id.as_str()[..id.as_str().len().min(ServerId::MAX_LEN - suffix.len())];
        ServerId::new(&format!("{stem}{suffix}")).ok()
    });
    let mut candidates = std::iter::once(id.clone()).chain(numbered);
    candidates.find(|id| !taken.contains(id)).unwrap_or_else(|| id.clone())
}

/// The models of before that are not found now, and that nobody removed: their folder or file cannot be read, or the folder is
/// empty, as the mount point of a disk is that is not there.
fn out_of_sight(
    before: &ModelsReport,
    found: &[DiscoveredModel],
    directories: &[PathBuf],
    problems: &[ModelProblem],
) -> Vec<DiscoveredModel> {
    let is_unreadable = |problem: &&ModelProblem| {
        use ProblemReason::{DirectoryUnreadable, FileUnreadable, LinkBroken};
        matches!(problem.reason, DirectoryUnreadable | FileUnreadable | LinkBroken)
    };
    let unreadable = problems.iter().filter(is_unreadable).map(|problem| Path::new(&problem.path));
    let is_empty = |folder: &Path| fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    let empty = directories.iter().map(PathBuf::as_path).filter(|folder| is_empty(folder));
    let lost: Vec<&Path> = unreadable.chain(empty).collect();
    let is_found = |model: &DiscoveredModel| found.iter().any(|new| new.path == model.path);
    let is_in = |model: &DiscoveredModel, place: &Path| {
        std::iter::once(&model.path).chain(&model.shards).any(|file| file.starts_with(place))
    };
    let models = before.models.iter().map(|known| &known.model).filter(|_| !lost.is_empty());
    let searched = models.filter(|model| directories.iter().any(|directory| is_in(model, directory)));
    let out_of_sight = searched.filter(|model| lost.iter().any(|place| is_in(model, place)) && !is_found(model));
    out_of_sight.map(|model| DiscoveredModel { port: None, ..model.clone() }).collect()
}

/// The tiers that model headers give to servers that name none; `configured` are the servers, each with the path of its model
/// without symbolic links. A model that cannot be read keeps its former tier, or has none; its launch fails with the reason.
fn tiers_of_servers(
    configured: &[(&ServerSpec, PathBuf)],
    models: &[DiscoveredModel],
    former: Option<FormerModels<'_>>,
    inspections: &Inspections,
) -> BTreeMap<PathBuf, String> {
    let found: BTreeMap<PathBuf, &DiscoveredModel> =
        models.iter().map(|model| (resolve_links(&model.path), model)).collect();
    let former_tier = |spec: &ServerSpec| {
        let mut servers = former?.configuration.servers();
        servers.find(|old| old.id == spec.id && old.model == spec.model)?.tier.as_deref().map(str::to_owned)
    };
    let tier = |(spec, path): &(&ServerSpec, PathBuf)| {
        let tier = match found.get(path) {
            Some(model) => model.tier.clone(),
            None => match &*inspections.of(&spec.model) {
                Ok(model) => model.tier.clone(),
                Err(_) => former_tier(spec),
            },
        };
        Some((spec.model.clone(), tier?))
    };
    configured.iter().filter(|(spec, _)| spec.tier.is_none()).filter_map(tier).collect()
}

/// The path without symbolic links, or as it is if it leads nowhere.
fn resolve_links(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Gives each server without a port of its own, configured or of a model, the one that it had before, otherwise the lowest
/// port that no server needs and on which nobody listens.
///
/// A kept port is not tested: the server itself may listen there, or a survivor of an earlier daemon, which the launcher
/// kills before the launch; the launcher also names the stranger that listens instead. Returns the chosen ports, and what
/// to save.
fn choose_ports(
    models: &[DiscoveredModel],
    configuration: &Configuration,
    kept: &KeptServers,
) -> Result<(BTreeMap<ServerId, u16>, KeptServers), CommandFailure> {
    let daemon = configuration.daemon().listen.as_ref().map(|listen| listen.port);
    let open: BTreeSet<&ServerId> = configuration.servers_without_port().map(|spec| &spec.id).collect();
    let written = configuration.servers().filter(|spec| !open.contains(&spec.id)).map(|spec| spec.port);
    let mut taken: BTreeSet<u16> = written.chain(daemon).collect();
    let first = configuration.first_port();
    let mut former = |id: &ServerId| {
        let port = kept.get(id).map(|server| server.port);
        port.filter(|port| *port >= first && taken.insert(*port))
    };
    let of_file = configuration.servers_without_port().map(|spec| (&spec.id, &*spec.host, None));
    let of_models = models.iter().map(|model| (&model.id, configuration.host(), Some(model.path.clone())));
    let servers: Vec<_> = of_file.chain(of_models).collect();
    let mut seekers: Vec<PortSeeker<'_>> =
        servers.iter().map(|(id, host, _)| PortSeeker { id, host, port: former(id) }).collect();
    // Servers that are gone may come back: their ports are reserved as long as there are enough others.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let present: BTreeSet<&ServerId> = servers.iter().map(|(id, ..)| *id).collect();
    let gone = kept.iter().filter(|(id, _)| !present.contains(id));
    let gone: KeptServers = gone.filter_map(|(id, server)| Some((id.clone(), server.gone(now)?))).collect();
    let reserved: BTreeSet<u16> = gone.values().map(|server| server.port).chain(taken.iter().copied()).collect();
    assign_ports(&mut seekers, first, &reserved, is_free)
        .or_else(|_| assign_ports(&mut seekers, first, &taken, is_free))
        .map_err(|error| CommandFailure::usage(error).next_step("lower llama-server.first-port"))?;
    let chosen: BTreeMap<ServerId, u16> =
        seekers.iter().filter_map(|seeker| Some((seeker.id.clone(), seeker.port?))).collect();
    let used: BTreeSet<u16> = chosen.values().copied().collect();
    let there = servers.iter().filter_map(|(id, _, model)| {
        let kept = KeptServer { port: *chosen.get(*id)?, model: model.clone(), gone_since: None };
        Some(((*id).clone(), kept))
    });
    let saved = gone.into_iter().filter(|(_, server)| !used.contains(&server.port)).chain(there).collect();
    Ok((chosen, saved))
}

/// The server of a model; `None` without a port.
fn to_server(model: &DiscoveredModel) -> Option<DiscoveredServer> {
    let mode = match model.kind {
        ModelKind::Generative => None,
        ModelKind::Embedding => Some("embeddings"),
        ModelKind::Reranking => Some("reranking"),
    };
    let mode = mode.map(|name| (name.to_owned(), FlagValue::Switch(true)));
    let projector = model.projector.as_ref().map(|path| {
        // Lossless: discovery skips names that are not UTF-8.
        ("mmproj".to_owned(), FlagValue::Text(path.to_string_lossy().into_owned()))
    });
    Some(DiscoveredServer {
        id: model.id.clone(),
        model: model.path.clone(),
        port: NonZeroU16::new(model.port?)?,
        enabled: model.enabled,
        display_name: display_name(model),
        tier: model.tier.clone(),
        thinking: model.thinking,
        flags: mode.into_iter().chain(projector).collect(),
    })
}

#[cfg(test)]
mod tests {
    use llama_warden_catalog::inspect;
    use llama_warden_tiny_gguf::TinyModel;

    use super::*;

    #[test]
    fn a_numbered_id_is_no_longer_than_one_may_be() {
        let long: ServerId = "x".repeat(ServerId::MAX_LEN).parse().expect("valid");
        assert!(free_id(&long, &[long.clone()].into()).as_str().ends_with("x_2"));
    }

    #[test]
    fn a_model_is_launched_as_what_it_is_for() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let file = folder.path().join("alpha-1B.gguf");
        TinyModel::new("alpha-1B").write(&file).expect("writable");
        let model = inspect(&file).expect("whole");
        let flags = |kind, projector: Option<&str>| {
            let projector = projector.map(PathBuf::from);
            let model = DiscoveredModel { kind, projector, port: Some(8001), ..model.clone() };
            to_server(&model).expect("it has a port").flags
        };
        let on = FlagValue::Switch(true);
        assert_eq!(flags(ModelKind::Generative, None), BTreeMap::new());
        assert_eq!(flags(ModelKind::Embedding, None), [("embeddings".to_owned(), on.clone())].into());
        assert_eq!(flags(ModelKind::Reranking, None), [("reranking".to_owned(), on)].into());
        let eye = FlagValue::Text("/m/mmproj.gguf".to_owned());
        assert_eq!(flags(ModelKind::Generative, Some("/m/mmproj.gguf")), [("mmproj".to_owned(), eye)].into());
    }
}
