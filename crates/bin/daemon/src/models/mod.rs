//! Turns discovered models into servers with stable ports.
//!
//! A configured server takes precedence over a model of the same path or id. Every other model becomes a server: enabled if
//! its folder was named on the command line; only startable, by id or by a profile, if its folder is in `models.dirs`.

mod port_file;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_catalog::{
    CatalogReport, DirectoryLinks, DiscoveredModel, ModelKind, ModelProblem, ProblemReason, assign_ports, discover,
    inspect,
};
use llama_warden_config::{
    ConfigProblem, ConfigProblems, Configuration, Discovered, DiscoveredServer, FlagValue, Fleet, HostEnvironment,
    ServerSpec,
};
use llama_warden_events::ServerId;

use crate::exit::CommandFailure;
use crate::load::LoadedConfig;
pub use port_file::{AssignedPorts, PortFile};
pub use report::{KnownModel, ModelsReport, word};

/// The folders to search, as absolute paths.
#[derive(Debug, Clone, Default)]
pub struct ModelFolders {
    /// Folders whose models become enabled servers.
    pub enabled: Vec<PathBuf>,
    /// Folders whose models become servers that are not enabled.
    pub known: Vec<PathBuf>,
    /// The models that were found there before.
    pub before: ModelsReport,
}

impl ModelFolders {
    /// The folders that a configuration names, those of the command line included.
    pub fn of(loaded: &LoadedConfig) -> Self {
        let enabled = loaded.source.model_dirs.clone();
        let known = loaded.configuration.model_dirs().iter().skip(enabled.len()).cloned().collect();
        Self { enabled, known, before: ModelsReport::default() }
    }
}

/// A configuration with its discovered models.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// The configuration, including the servers of models.
    pub loaded: LoadedConfig,
    /// The models, for people and the API.
    pub models: ModelsReport,
    /// The ports of those servers, to be saved.
    pub ports: AssignedPorts,
}

/// The result of a search for models.
#[derive(Debug)]
pub struct DiscoveryOutcome {
    /// Servers and tiers to add to the configuration.
    pub discovered: Discovered,
    /// The models, for people and the API.
    pub report: ModelsReport,
    /// The ports of discovered servers, including remembered ones whose models are absent.
    pub ports: AssignedPorts,
}

impl Inventory {
    /// Searches the model folders of a configuration and adds servers for what it finds. Writes nothing.
    ///
    /// # Errors
    /// A profile matches no server; there are fewer free ports than models.
    pub fn scan(loaded: LoadedConfig) -> Result<Self, CommandFailure> {
        Self::rescan(loaded, ModelsReport::default())
    }

    /// Like [`Self::scan`], for a reload: models of `before` whose folder cannot be read now, or is empty, stay.
    ///
    /// # Errors
    /// As [`Self::scan`].
    pub fn rescan(loaded: LoadedConfig, before: ModelsReport) -> Result<Self, CommandFailure> {
        let (inventory, problems) = Self::search(loaded, before)?;
        if problems.is_empty() { Ok(inventory) } else { Err(ConfigProblems::sorted(problems).into()) }
    }

    /// Finds, parses and scans, and goes on after a problem, so that all can be told at once.
    ///
    /// # Errors
    /// Nothing of the configuration can be read, or there are fewer free ports than models.
    pub fn examine(explicit: Option<&Path>) -> Result<(Self, ConfigProblems), CommandFailure> {
        let (loaded, ConfigProblems(mut problems)) = LoadedConfig::examine(explicit)?;
        let (inventory, more) = Self::search(loaded, ModelsReport::default())?;
        problems.extend(more);
        Ok((inventory, ConfigProblems::sorted(problems)))
    }

    fn search(loaded: LoadedConfig, before: ModelsReport) -> Result<(Self, Vec<ConfigProblem>), CommandFailure> {
        let remembered = loaded.state_dir().map(|state| PortFile::new(&state).read()).unwrap_or_default();
        let folders = ModelFolders { before, ..ModelFolders::of(&loaded) };
        let DiscoveryOutcome { discovered, report, ports } =
            discover_servers(&loaded.configuration, &folders, &remembered)?;
        let mut configuration = Arc::unwrap_or_clone(loaded.configuration);
        let problems = configuration.add_discovered(discovered);
        let loaded = LoadedConfig { configuration: Arc::new(configuration), ..loaded };
        Ok((Self { loaded, models: report, ports }, problems))
    }

    /// Everything that is valid and probably a mistake, in the configuration and in the models that it names.
    pub fn warnings(&self) -> Vec<ConfigProblem> {
        let fault = |path: &Path| {
            // The daemon may run as another user than this one, who may not read the file.
            let problem = inspect(path).err().filter(|problem| problem.reason != ProblemReason::FileUnreadable)?;
            // The fault may be one of another shard.
            let detail = if Path::new(&problem.path) == path { problem.detail } else { problem.to_string() };
            Some((detail, problem.help))
        };
        let configuration = &self.loaded.configuration;
        configuration.warnings().into_iter().chain(configuration.model_warnings(fault)).collect()
    }

    /// Reduces what the daemon holds for months: drops the text that only error messages need, and shares one copy of each
    /// server among the configuration, the fleet in force for `profile`, and the fleet `before`.
    #[must_use]
    pub fn compacted(mut self, profile: Option<&str>, before: &Fleet) -> Self {
        let configuration = Arc::unwrap_or_clone(self.loaded.configuration);
        self.loaded.configuration = Arc::new(configuration.dedup(profile, &HostEnvironment::current(), before));
        self
    }
}

/// Searches `folders`, and reads the headers of the models that a configuration names. `remembered` are the ports of
/// earlier runs.
///
/// # Errors
/// There are fewer free ports than models.
pub fn discover_servers(
    configuration: &Configuration,
    folders: &ModelFolders,
    remembered: &AssignedPorts,
) -> Result<DiscoveryOutcome, CommandFailure> {
    let directories = [folders.enabled.clone(), folders.known.clone()].concat();
    let links = if configuration.follows_model_links() { DirectoryLinks::Followed } else { DirectoryLinks::Reported };
    let CatalogReport { mut models, skipped, problems } =
        if directories.is_empty() { CatalogReport::default() } else { discover(&directories, links) };
    let kept = out_of_sight(&folders.before, &models, &directories, &problems);
    if !kept.is_empty() {
        tracing::warn!(
            models = kept.len(),
            "the folders of these models cannot be read or are empty: their servers stay; `llama-warden reload --force` removes them"
        );
    }
    models.extend(kept);
    let configured: Vec<_> = configuration.servers().map(|spec| (spec, resolve_links(&spec.model))).collect();
    let tiers = tiers_of_servers(&configured, &models);
    let by_path: BTreeMap<&Path, &ServerSpec> = configured.iter().rev().map(|(spec, path)| (&**path, *spec)).collect();
    let ids: BTreeSet<&ServerId> = configured.iter().map(|(spec, _)| &spec.id).collect();
    let mut unclaimed = Vec::new();
    let mut known = Vec::new();
    for model in models {
        let path = resolve_links(&model.path);
        // A configured server takes precedence over a model that it runs, and over another model with its id.
        if let Some(spec) = by_path.get(&*path) {
            let server = Some(spec.id.clone());
            known.push(KnownModel {
                model: DiscoveredModel { port: Some(spec.port), enabled: spec.enabled, ..model },
                server,
            });
        } else if ids.contains(&model.id) {
            known.push(KnownModel { model: DiscoveredModel { enabled: false, ..model }, server: None });
        } else {
            let enabled = folders.enabled.iter().any(|folder| model.path.starts_with(folder));
            unclaimed.push(DiscoveredModel { enabled, ..model });
        }
    }
    let ports = assign_stable_ports(&mut unclaimed, configuration, remembered)?;
    let servers = unclaimed.iter().filter_map(to_server).collect();
    known.extend(unclaimed.into_iter().map(|model| KnownModel { server: Some(model.id.clone()), model }));
    known.sort_by(|a, b| a.model.id.cmp(&b.model.id));
    let report = ModelsReport { directories, models: known, skipped, problems };
    Ok(DiscoveryOutcome { discovered: Discovered { servers, tiers }, report, ports })
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
    let is_found = |model: &DiscoveredModel| found.iter().any(|new| new.path == model.path || new.id == model.id);
    let is_in = |model: &DiscoveredModel, place: &Path| {
        std::iter::once(&model.path).chain(&model.shards).any(|file| file.starts_with(place))
    };
    let models = before.models.iter().map(|known| &known.model).filter(|_| !lost.is_empty());
    let searched = models.filter(|model| directories.iter().any(|directory| is_in(model, directory)));
    let out_of_sight = searched.filter(|model| lost.iter().any(|place| is_in(model, place)) && !is_found(model));
    out_of_sight.map(|model| DiscoveredModel { port: None, ..model.clone() }).collect()
}

/// The tiers that model headers give to servers that name none; `configured` are the servers, each with the path of its model
/// without symbolic links. An unreadable model has no tier; its launch fails with the reason.
fn tiers_of_servers(configured: &[(&ServerSpec, PathBuf)], models: &[DiscoveredModel]) -> BTreeMap<PathBuf, String> {
    let found: BTreeMap<PathBuf, &DiscoveredModel> =
        models.iter().map(|model| (resolve_links(&model.path), model)).collect();
    let tier = |(spec, path): &(&ServerSpec, PathBuf)| {
        let tier = match found.get(path) {
            Some(model) => model.tier.clone(),
            None => inspect(&spec.model).ok().and_then(|model| model.tier),
        };
        Some((spec.model.clone(), tier?))
    };
    configured.iter().filter(|(spec, _)| spec.tier.is_none()).filter_map(tier).collect()
}

/// The path without symbolic links, or as it is if it leads nowhere.
fn resolve_links(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Gives each model the port of earlier runs, otherwise the lowest port that no server needs and that can be bound.
///
/// A remembered port is not tested: a survivor of an earlier daemon may still listen there, and the launcher kills it
/// before the launch, or names the stranger that listens instead. Returns the ports to save.
fn assign_stable_ports(
    models: &mut [DiscoveredModel],
    configuration: &Configuration,
    remembered: &AssignedPorts,
) -> Result<AssignedPorts, CommandFailure> {
    let daemon = configuration.daemon().listen.as_ref().map(|listen| listen.port);
    let mut taken: BTreeSet<u16> = configuration.servers().map(|spec| spec.port).chain(daemon).collect();
    for model in models.iter_mut() {
        model.port = remembered.get(&model.id).copied().filter(|port| taken.insert(*port));
    }
    let ids: BTreeSet<ServerId> = models.iter().map(|model| model.id.clone()).collect();
    // Absent models may come back: their ports are reserved as long as there are enough others.
    let absent: AssignedPorts =
        remembered.iter().filter(|(id, _)| !ids.contains(*id)).map(|(id, port)| (id.clone(), *port)).collect();
    let reserved: BTreeSet<u16> = taken.iter().chain(absent.values()).copied().collect();
    let host = configuration.host();
    let is_free = |port: u16| TcpListener::bind((host, port)).is_ok();
    let first = configuration.first_port();
    assign_ports(models, first, &reserved, is_free).or_else(|_| assign_ports(models, first, &taken, is_free)).map_err(
        |error| CommandFailure::usage(error).next_step("lower llama-server.first-port, or name fewer folders"),
    )?;
    let given: AssignedPorts = models.iter().filter_map(|model| Some((model.id.clone(), model.port?))).collect();
    let used: BTreeSet<u16> = given.values().copied().collect();
    Ok(absent.into_iter().filter(|(_, port)| !used.contains(port)).chain(given).collect())
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
        display_name: report::display_name(model),
        tier: model.tier.clone(),
        thinking: model.thinking,
        flags: mode.into_iter().chain(projector).collect(),
    })
}

#[cfg(test)]
mod tests;
