//! Adds a server for each model that was found and that no server of the file names.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;

use llama_warden_events::ServerId;
use llama_warden_fleet::FlagValue;

use crate::file::flag_table::FlagTable;
use crate::file::reader::Located;
use crate::file::tables::Server;
use crate::file::values::SingleLine;
use crate::problem::{ConfigProblem, ConfigProblems, Location};
use crate::resolve::configuration::{Configuration, Resolvable};
use crate::resolve::defaults::SpecBuilder;
use crate::resolve::identities::IdentifiedServer;

/// The result of a scan of the model files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Discovered {
    /// Models without a server in the file.
    pub servers: Vec<DiscoveredServer>,
    /// Tiers by model, for the servers of the file that name none.
    pub tiers: BTreeMap<PathBuf, String>,
    /// Ports, for the servers of the file that name none.
    pub ports: BTreeMap<ServerId, u16>,
}

/// A model that was found, as the server that it becomes. Every other setting comes from the sections of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct DiscoveredServer {
    /// Its id; no other server has it.
    pub id: ServerId,
    /// The model, absolute.
    pub model: PathBuf,
    /// Its port; no other server has it.
    pub port: NonZeroU16,
    /// Whether it is started when no profile is.
    pub enabled: bool,
    /// Its name for people.
    pub display_name: String,
    /// Quantisation or another class of quality.
    pub tier: Option<String>,
    /// Whether the model thinks before it answers.
    pub thinking: bool,
    /// Options that the model needs, over those of a profile and of `[flags]`.
    pub flags: BTreeMap<String, FlagValue>,
}

impl Configuration {
    /// Adds what was found in the folders of models, and the tiers and ports that the file leaves open.
    ///
    /// # Errors
    /// Profiles that name servers or tiers that were not found; ids and ports that another server has.
    pub fn with_discovered(mut self, found: Discovered) -> Result<Self, ConfigProblems> {
        let problems = self.add_discovered(found);
        if problems.is_empty() { Ok(self) } else { Err(ConfigProblems::sorted(problems)) }
    }

    /// Like [`Self::with_discovered`], for a configuration that may have problems already.
    pub fn add_discovered(&mut self, found: Discovered) -> Vec<ConfigProblem> {
        let mut tiers = BTreeSet::new();
        for server in &mut self.servers {
            let spec = Arc::make_mut(&mut server.spec);
            let tier = spec.tier.take().or_else(|| found.tiers.get(&spec.model).map(|tier| tier.as_str().into()));
            spec.tier = tier.map(|tier| shared(&mut tiers, tier));
            spec.port = found.ports.get(&spec.id).copied().unwrap_or(spec.port);
        }
        let mut problems = Vec::new();
        let mut ids: BTreeSet<ServerId> = self.servers().map(|spec| spec.id.clone()).collect();
        let mut ports: BTreeSet<u16> = self.servers().map(|spec| spec.port).collect();
        for server in found.servers {
            let place = Location::File(server.model.clone());
            if !ids.insert(server.id.clone()) {
                let message = format!("another server is called `{}`", server.id);
                problems.push(ConfigProblem::error(&place, message, "give one of them another `id`"));
            } else if !ports.insert(server.port.get()) {
                let message = format!("port {} is taken by another server", server.port);
                problems.push(ConfigProblem::error(&place, message, "choose another `llama-server.first-port`"));
            } else {
                match self.resolvable(server) {
                    Ok(mut resolvable) => {
                        let spec = Arc::make_mut(&mut resolvable.spec);
                        spec.tier = spec.tier.take().map(|tier| shared(&mut tiers, tier));
                        self.servers.push(resolvable);
                    }
                    Err(ConfigProblems(more)) => problems.extend(more),
                }
            }
        }
        problems.extend(self.check_selectors());
        problems
    }

    /// Builds the server as if the file contained it.
    fn resolvable(&self, server: DiscoveredServer) -> Result<Resolvable, ConfigProblems> {
        let place = Location::File(server.model.clone());
        let line = |text: &str| at(&place, SingleLine(text.to_owned()));
        let flags = server.flags.into_iter().map(|(name, value)| (name, at_value(&place, value)));
        let written = Server {
            model: line(&server.model.to_string_lossy()),
            enabled: at(&place, server.enabled),
            display_name: line(&server.display_name),
            tier: server.tier.as_deref().and_then(line),
            thinking: at(&place, server.thinking),
            flags: at(&place, FlagTable(flags.collect())),
            ..Server::default()
        };
        let specs = SpecBuilder { file: &self.file, directory: &self.directory };
        let planned =
            IdentifiedServer { id: server.id, port: server.port.get(), written: &written, location: &place, index: 0 };
        Resolvable::of(&specs, &planned, &self.common)
    }
}

/// The tier in `known` that equals this one: a fleet has few different tiers, so equal ones share one allocation.
fn shared(known: &mut BTreeSet<Arc<str>>, tier: Arc<str>) -> Arc<str> {
    let equal = known.get(&tier).cloned();
    equal.unwrap_or_else(|| {
        known.insert(tier.clone());
        tier
    })
}

fn at_value<T>(place: &Location, value: T) -> Located<T> {
    Located { value, location: place.clone() }
}

fn at<T>(place: &Location, value: T) -> Option<Located<T>> {
    Some(at_value(place, value))
}
