//! Models on disk and the servers that run them.
//!
//! A server of the file wins over a model of the same path or id. What is left becomes a server of its own: enabled where
//! its folder was named on the command line, startable by id and by profiles where it stands in `models.dirs`.

mod ports;
mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpListener;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_catalog::{CatalogReport, DiscoveredModel, ModelKind, assign_ports, discover, inspect};
use llama_warden_config::{Configuration, Discovered, DiscoveredServer, FlagValue, Fleet, HostEnvironment, ServerSpec};
use llama_warden_events::ServerId;

use crate::exit::{Exit, Failure};
use crate::load::Loaded;
pub use ports::{PortBook, Ports};
pub use report::{KnownModel, ModelsReport, reason};

/// Folders with models.
#[derive(Debug, Clone, Default)]
pub struct Folders {
    /// Those whose models are started by themselves, absolute.
    pub enabled: Vec<PathBuf>,
    /// Those whose models are only there to be started, absolute.
    pub known: Vec<PathBuf>,
}

/// A configuration with the models that were found for it.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// The configuration, the servers of models included.
    pub loaded: Loaded,
    /// What was found.
    pub models: ModelsReport,
    /// The ports of those servers, to be kept.
    pub ports: Ports,
}

/// What a look at the model files came to.
#[derive(Debug)]
pub struct Findings {
    /// For the configuration.
    pub discovered: Discovered,
    /// For people.
    pub report: ModelsReport,
    /// Of every server that nobody wrote.
    pub ports: Ports,
}

impl Inventory {
    /// Looks at the model files of a configuration. Writes nothing.
    ///
    /// # Errors
    /// Profiles that mean nothing that was found; fewer free ports than models.
    pub fn take(loaded: Loaded) -> Result<Self, Failure> {
        let remembered = loaded.state_dir().map(|state| PortBook::new(&state).recall()).unwrap_or_default();
        let Findings { discovered, report, ports } = look(&loaded.configuration, &loaded.folders(), &remembered)?;
        let configuration = Arc::unwrap_or_clone(loaded.configuration).with_discovered(discovered)?;
        Ok(Self { loaded: Loaded { configuration: Arc::new(configuration), ..loaded }, models: report, ports })
    }

    /// The same for a daemon, which lives on it for months: without what only reports of the configuration need, and with
    /// one copy of each server for what is configured, what is in force for `profile`, and what `before` was.
    #[must_use]
    pub fn resting(mut self, profile: Option<&str>, before: &Fleet) -> Self {
        let configuration = Arc::unwrap_or_clone(self.loaded.configuration);
        self.loaded.configuration = Arc::new(configuration.dedup(profile, &HostEnvironment::current(), before));
        self
    }
}

/// Looks through folders, and at the models that a configuration names. `remembered` are the ports of earlier runs.
///
/// # Errors
/// Fewer free ports than models.
pub fn look(configuration: &Configuration, folders: &Folders, remembered: &Ports) -> Result<Findings, Failure> {
    let directories = [folders.enabled.clone(), folders.known.clone()].concat();
    let CatalogReport { models, skipped, problems } =
        if directories.is_empty() { CatalogReport::default() } else { discover(&directories) };
    let written = Written::of(configuration);
    let tiers = written.tiers(&models);
    let mut free = Vec::new();
    let mut known = Vec::new();
    for model in models {
        match written.runs(&model) {
            Some(Runs::Here(server)) => known.push(KnownModel::of_server(model, server)),
            Some(Runs::Elsewhere) => known.push(KnownModel::without_server(model)),
            None => {
                let enabled = folders.enabled.iter().any(|folder| model.path.starts_with(folder));
                free.push(DiscoveredModel { enabled, ..model });
            }
        }
    }
    let ports = give_ports(&mut free, configuration, remembered)?;
    let servers = free.iter().filter_map(server).collect();
    known.extend(free.into_iter().map(|model| KnownModel { server: Some(model.id.clone()), model }));
    known.sort_by(|a, b| a.model.id.cmp(&b.model.id));
    let report = ModelsReport { directories, models: known, skipped, problems };
    Ok(Findings { discovered: Discovered { servers, tiers }, report, ports })
}

/// The servers of the file, by what their models are called without symbolic links.
struct Written<'a> {
    servers: Vec<(&'a ServerSpec, PathBuf)>,
}

/// Which server of the file stands in the way of a model.
enum Runs<'a> {
    /// One that runs it.
    Here(&'a ServerSpec),
    /// One of the same id that runs another model.
    Elsewhere,
}

impl<'a> Written<'a> {
    fn of(configuration: &'a Configuration) -> Self {
        Self { servers: configuration.servers().map(|spec| (spec, real(&spec.model))).collect() }
    }

    fn runs(&self, model: &DiscoveredModel) -> Option<Runs<'a>> {
        let path = real(&model.path);
        let same_model = self.servers.iter().find(|(_, real)| *real == path);
        let same_id = || self.servers.iter().any(|(spec, _)| spec.id == model.id).then_some(Runs::Elsewhere);
        same_model.map(|(spec, _)| Runs::Here(spec)).or_else(same_id)
    }

    /// Tiers from the headers of models whose servers name none. A model that cannot be read has none; its launch tells.
    fn tiers(&self, models: &[DiscoveredModel]) -> BTreeMap<PathBuf, String> {
        let found: BTreeMap<PathBuf, &DiscoveredModel> =
            models.iter().map(|model| (real(&model.path), model)).collect();
        let tier = |(spec, path): &(&ServerSpec, PathBuf)| {
            let tier = match found.get(path) {
                Some(model) => model.tier.clone(),
                None => inspect(&spec.model).ok().and_then(|model| model.tier),
            };
            Some((spec.model.clone(), tier?))
        };
        self.servers.iter().filter(|(spec, _)| spec.tier.is_none()).filter_map(tier).collect()
    }
}

/// A path without symbolic links, where it leads somewhere.
fn real(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// A model has the port of earlier runs, else the lowest that nobody needs and nobody listens on. A remembered port is
/// not looked at: what listens there now may be what an earlier daemon left, and the launch names a stranger.
fn give_ports(
    models: &mut [DiscoveredModel],
    configuration: &Configuration,
    remembered: &Ports,
) -> Result<Ports, Failure> {
    let daemon = configuration.daemon().listen.as_ref().map(|listen| listen.port);
    let mut taken: BTreeSet<u16> = configuration.servers().map(|spec| spec.port).chain(daemon).collect();
    for model in models.iter_mut() {
        model.port = remembered.get(&model.id).copied().filter(|port| taken.insert(*port));
    }
    let ids: BTreeSet<ServerId> = models.iter().map(|model| model.id.clone()).collect();
    // Models that are not there now may come back: their ports are given away last.
    let absent: Ports =
        remembered.iter().filter(|(id, _)| !ids.contains(*id)).map(|(id, port)| (id.clone(), *port)).collect();
    let reserved: BTreeSet<u16> = taken.iter().chain(absent.values()).copied().collect();
    let host = configuration.host();
    let is_free = |port: u16| TcpListener::bind((host, port)).is_ok();
    let first = configuration.first_port();
    assign_ports(models, first, &reserved, is_free).or_else(|_| assign_ports(models, first, &taken, is_free)).map_err(
        |error| Failure::new(Exit::Usage, error).next_step("lower llama-server.first-port, or name fewer folders"),
    )?;
    let given: Ports = models.iter().filter_map(|model| Some((model.id.clone(), model.port?))).collect();
    let used: BTreeSet<u16> = given.values().copied().collect();
    Ok(absent.into_iter().filter(|(_, port)| !used.contains(port)).chain(given).collect())
}

/// The server that a model becomes, once it has a port.
fn server(model: &DiscoveredModel) -> Option<DiscoveredServer> {
    let mode = match model.kind {
        ModelKind::Generative => None,
        ModelKind::Embedding => Some("embeddings"),
        ModelKind::Reranking => Some("reranking"),
    };
    let mode = mode.map(|name| (name.to_owned(), FlagValue::Switch(true)));
    let projector = model.projector.as_ref().map(|path| {
        // Discovery passes over names that are no UTF-8.
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
