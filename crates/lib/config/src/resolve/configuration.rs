//! [`Configuration`]: a source merged over the built-in defaults, validated, and resolved for a profile and a machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_config_source::Environment;
use llama_warden_events::{ProfileCard, ServerId};
use llama_warden_fleet::{Flags, Fleet, PeerSettings, RouterSettings, ServerSpec};

use crate::file::env_overrides;
use crate::file::provenance::written_keys;
use crate::file::reader::{ConfigValue, Located};
use crate::file::selector::SelectorMatcher;
use crate::file::tables::{self, ConfigFile, Profile};
use crate::file::toml_tree::{self, TomlNode};
use crate::problem::{ConfigProblem, ConfigProblems, Document, Layer, Location};
use crate::resolve::cross_checks::CrossChecker;
use crate::resolve::defaults::{SharedDefaults, SpecBuilder};
use crate::resolve::flags::{self, OwnFlags};
use crate::resolve::identities::IdentifiedServer;
use crate::resolve::profiles::{self, KnownServers, Undecided, WrittenNames};
use llama_warden_config_source::{ConfigSource, DEFAULT_TOML};
use llama_warden_fleet::{DaemonSettings, HostEnvironment, LogSettings, MetricsSettings, StartSettings};
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct Configuration {
    pub(crate) path: Option<PathBuf>,
    pub(crate) file: ConfigFile,
    pub(crate) environment: Environment,
    pub(crate) written: BTreeSet<String>,
    daemon: DaemonSettings,
    logs: LogSettings,
    start: StartSettings,
    metrics: MetricsSettings,
    router: RouterSettings,
    peers: Vec<PeerSettings>,
    model_dirs: Vec<PathBuf>,
    follows_model_links: bool,
    pub(crate) common: SharedDefaults,
    /// The base of relative paths.
    pub(crate) directory: PathBuf,
    /// The written servers in the order of the file, then those that were discovered.
    pub(crate) servers: Vec<Resolvable>,
    /// The names of the servers of a file with problems; empty without.
    written_names: WrittenNames,
}

/// A server of which a profile still decides the options and whether it is enabled.
#[derive(Debug, Clone)]
pub(crate) struct Resolvable {
    /// The server. Each resolution replaces `flags` and `enabled`.
    pub(crate) spec: Arc<ServerSpec>,
    /// Whether it is started when no profile is.
    enabled: bool,
    flags: OwnFlags,
    /// Whether the file names its port.
    has_own_port: bool,
}

impl Configuration {
    /// Reads a source, lays it over the built-in defaults and the overrides of the environment over both, and
    /// validates the result.
    ///
    /// # Errors
    /// Every problem at once. Only a syntax error hides the problems behind it.
    ///
    /// Reads no model file: [`Self::with_discovered`] checks selectors of profiles that may match a model in a folder or a tier
    /// in a model's header.
    pub fn parse(source: &ConfigSource, environment: &Environment) -> Result<Self, ConfigProblems> {
        let (configuration, problems) = Self::examine(source, environment);
        match configuration {
            Some(configuration) if problems.0.is_empty() => Ok(configuration),
            _ => Err(problems),
        }
    }

    /// Like [`Self::parse`], but goes on after a problem: gives what can be read beside the problems, so that warnings and
    /// what [`Self::add_discovered`] finds can be told at once. The configuration is only good for that.
    pub fn examine(source: &ConfigSource, environment: &Environment) -> (Option<Self>, ConfigProblems) {
        let mut problems = Vec::new();
        let configuration = Self::read(source, environment, &mut problems);
        let configuration = configuration.map_err(|ConfigProblems(more)| problems.extend(more)).ok().flatten();
        (configuration, ConfigProblems::sorted(problems))
    }

    /// `None` with syntax errors after which the rest of the file is not worth reading.
    fn read(
        source: &ConfigSource,
        environment: &Environment,
        problems: &mut Vec<ConfigProblem>,
    ) -> Result<Option<Self>, ConfigProblems> {
        let mut reader = tables::reader();
        let built_in = built_in_tree(&mut reader.problems);
        let built_in = built_in.and_then(|tree| ConfigFile::read(&tree, &mut reader)).unwrap_or_default();
        let Some(mut user) = user_tree(source, problems) else { return Ok(None) };
        let is_misspelled = misspelled(problems);
        reader.problems.extend(env_overrides::apply(environment, &mut user));
        let written = written_keys(&user);
        let written_names = WrittenNames::of(&user);
        let mut file = built_in.overlaid(ConfigFile::read(&user, &mut reader).unwrap_or_default());

        let mut checker = CrossChecker { file: &file, written: &written, problems: reader.problems };
        checker.values();
        checker.peers();
        checker.shell_spellings(environment);
        let identities = checker.identities();
        let specs = SpecBuilder { file: &file, directory: &source.directory };
        let model_dirs = [source.model_dirs.clone(), specs.model_dirs()?].concat();
        let known = identities.known(&written_names, &model_dirs);
        checker.profiles(&known);
        checker.routing(&known, identities.places());
        problems.extend(checker.problems.into_iter().filter(|problem| !is_misspelled(&problem.location)));

        let common = specs.common()?;
        // Without a problem, every server is built.
        let built =
            identities.servers.iter().map(|planned| Ok((planned.index, Resolvable::of(&specs, planned, &common)?)));
        let (indices, servers): (BTreeSet<usize>, Vec<_>) = built
            .filter(|server: &Result<_, ConfigProblems>| server.is_ok() || problems.is_empty())
            .collect::<Result<_, _>>()?;
        let is_complete = identities.is_complete && indices.len() == identities.servers.len();
        let (daemon, logs, start, router) = (specs.daemon()?, specs.logs()?, specs.start()?, specs.router()?);
        let metrics = specs.metrics()?;
        let peers = specs.peers();
        let follows_model_links = specs.follows_model_links()?;
        if let Some(written) = file.servers.as_mut().filter(|_| !is_complete) {
            let mut index = 0..;
            written.value.retain(|_| index.next().is_some_and(|index| indices.contains(&index)));
        }
        Ok(Some(Self {
            path: source.path.clone(),
            daemon,
            logs,
            start,
            metrics,
            router,
            peers,
            model_dirs,
            follows_model_links,
            common,
            directory: source.directory.clone(),
            servers,
            written_names: if problems.is_empty() { WrittenNames::default() } else { written_names },
            environment: environment.clone(),
            written,
            file,
        }))
    }

    /// The fleet for a machine: every configured server, those of the profile enabled.
    ///
    /// `profile` = `None` takes `daemon.profile`; an empty name means no profile, which enables what says
    /// `enabled = true`. Options: `[flags]` < profile < server; those of a profile go to its own servers alone.
    /// Fails only when there is no such profile.
    pub fn resolve(&self, profile: Option<&str>, host: &HostEnvironment) -> Result<Fleet, ConfigProblems> {
        let profile = self.chosen(profile)?;
        let (flags, flags_of_members) = (self.merged_flags(None, host), self.merged_flags(profile, host));
        let members = profile.map(selectors);
        Ok(Fleet::new(self.servers.iter().map(|server| {
            let member = members.as_ref().map(|members| includes(members, server));
            let flags = if member == Some(true) { &flags_of_members } else { &flags };
            server.spec.resolved(&flags::with_own(flags, &server.flags), member.unwrap_or(server.enabled))
        })))
    }

    /// The servers of a profile alone, as [`Self::resolve`] has them; none of a profile that does not exist.
    pub fn members<'a>(
        &'a self,
        profile: &str,
        host: &HostEnvironment,
    ) -> impl Iterator<Item = Arc<ServerSpec>> + use<'a> {
        let profile = self.profile_tables().and_then(|tables| tables.get(profile)).map(|at| &at.value);
        let (flags, members) = (self.merged_flags(profile, host), profile.map(selectors).unwrap_or_default());
        let servers = self.servers.iter().filter(move |server| includes(&members, server));
        servers.map(move |server| server.spec.resolved(&flags::with_own(&flags, &server.flags), true))
    }

    fn merged_flags(&self, over: Option<&Profile>, host: &HostEnvironment) -> Arc<Flags> {
        let tables = [self.file.flags.as_ref(), over.and_then(|profile| profile.flags.as_ref())];
        flags::merge(tables.map(|table| table.map(|at| &at.value)), host)
    }

    /// The name of the profile that [`Self::resolve`] takes for the same argument.
    pub fn active_profile<'a>(&'a self, requested: Option<&'a str>) -> Option<&'a str> {
        let configured = self.file.daemon.as_ref().and_then(|daemon| daemon.value.profile.as_ref());
        requested.or(configured.map(|at| at.value.as_str())).filter(|name| !name.is_empty())
    }

    /// All profiles, by name.
    pub fn profiles(&self) -> Vec<ProfileCard> {
        let card = |(name, profile): (&String, &Located<Profile>)| {
            let selectors = selectors(&profile.value);
            let members = self.servers.iter().filter(|server| includes(&selectors, server));
            ProfileCard {
                name: name.clone(),
                description: profile.value.description.as_ref().map(|at| at.value.clone()).unwrap_or_default(),
                servers: members.map(|server| server.spec.id.clone()).collect(),
            }
        };
        self.profile_tables().into_iter().flatten().map(card).collect()
    }

    /// The file that was read; `None` for the built-in defaults alone.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether a key such as `daemon.listen` is written, in the file or in an environment variable.
    pub fn is_written(&self, key: &str) -> bool {
        self.written.contains(key)
    }

    /// Whether there is neither a file nor an environment variable, and the built-in defaults are all there is.
    pub fn is_built_in(&self) -> bool {
        self.path.is_none() && self.written.is_empty()
    }

    /// `[daemon]`.
    pub fn daemon(&self) -> &DaemonSettings {
        &self.daemon
    }

    /// `[logs]`.
    pub fn logs(&self) -> LogSettings {
        self.logs
    }

    /// `[start]`.
    pub fn start(&self) -> StartSettings {
        self.start
    }

    /// `[metrics]`.
    pub fn metrics(&self) -> MetricsSettings {
        self.metrics
    }

    /// `[router]`, without what each server has in its specification.
    pub fn router(&self) -> &RouterSettings {
        &self.router
    }

    /// `[peers]`, by name.
    pub fn peers(&self) -> &[PeerSettings] {
        &self.peers
    }

    /// The table `[extensions.NAME]` as it is written; `None` where the configuration has none of that name.
    ///
    /// Its keys belong to the component of that name, which reads them with
    /// [`try_into`](toml::Table::try_into): `table.clone().try_into::<Settings>()`.
    pub fn extension(&self, name: &str) -> Option<&toml::Table> {
        self.extension_tables().find_map(|(known, at)| (known == name).then_some(&at.value))
    }

    /// The table `[extensions.NAME]` as a type of its component; `None` where the configuration has none of that name.
    ///
    /// # Errors
    /// A key is unknown to the type, lacks, or has another type, with the place in the file.
    pub fn extension_settings<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Box<ConfigProblem>> {
        let Some((_, table)) = self.extension_tables().find(|(known, _)| *known == name) else { return Ok(None) };
        let problem = |location: &Location, error: &toml::de::Error| {
            let message = format!("[extensions.{name}]: {}", error.message());
            Box::new(ConfigProblem::error(location, message, "write the keys that the component knows"))
        };
        // Read anew from the text, since its values know their places.
        let spanned = table.location.document().and_then(|document| {
            let (root, _) = DeTable::parse_recoverable(&document.text);
            let extensions = root.into_inner().remove("extensions")?;
            let DeValue::Table(mut extensions) = extensions.into_inner() else { return None };
            Some((document, extensions.remove(name)?))
        });
        match spanned {
            Some((document, value)) => T::deserialize(ValueDeserializer::from(value)).map(Some).map_err(|error| {
                let written = |span| Location::Text { document: Arc::clone(document), span };
                problem(&error.span().map_or_else(|| table.location.clone(), written), &error)
            }),
            None => table.value.clone().try_into().map(Some).map_err(|error| problem(&table.location, &error)),
        }
    }

    /// The place of `[extensions.NAME]`, or the file where the configuration has none of that name; `None` without a file.
    pub fn extension_place(&self, name: &str) -> Option<Location> {
        let table = self.extensions().find_map(|(known, place)| (known == name).then(|| place.clone()));
        table.or_else(|| self.path.clone().map(Location::File))
    }

    /// Every `[extensions.NAME]` by name, with its place: for a message about a component that is not compiled in.
    pub fn extensions(&self) -> impl Iterator<Item = (&str, &Location)> {
        self.extension_tables().map(|(name, at)| (name, &at.location))
    }

    /// The folder with more detector packs, absolute.
    pub fn detectors_dir(&self) -> Option<&Path> {
        self.common.detectors_dir.as_deref()
    }

    /// The folder with more flag dialects, absolute.
    pub fn dialects_dir(&self) -> Option<&Path> {
        self.common.dialects_dir.as_deref()
    }

    /// The folders that are scanned for models, absolute.
    pub fn model_dirs(&self) -> &[PathBuf] {
        &self.model_dirs
    }

    /// Whether a scan for models follows links to folders outside of those.
    pub const fn follows_model_links(&self) -> bool {
        self.follows_model_links
    }

    /// The address that servers without one of their own bind.
    pub fn host(&self) -> &str {
        &self.common.host
    }

    /// The first port for servers without one of their own.
    pub fn first_port(&self) -> u16 {
        self.common.first_port
    }

    /// Every server, the written ones first, with all but what depends on the profile: its options, and whether it is enabled
    /// there.
    pub fn servers(&self) -> impl Iterator<Item = &ServerSpec> {
        self.servers.iter().map(|server| &*server.spec)
    }

    /// The servers whose port the file leaves open, in the order of the file: [`Self::servers`] has a port for each that is
    /// good only as long as nothing is added before it.
    pub fn servers_without_port(&self) -> impl Iterator<Item = &ServerSpec> {
        self.servers.iter().filter(|server| !server.has_own_port).map(|server| &*server.spec)
    }

    /// With another port for a server whose port the file leaves open.
    #[must_use]
    pub fn with_port(mut self, server: &ServerId, port: u16) -> Self {
        let open = self.servers.iter_mut().filter(|open| !open.has_own_port && open.spec.id == *server);
        open.for_each(|open| Arc::make_mut(&mut open.spec).port = port);
        self
    }

    /// Checks profiles and router against all servers that there are.
    pub(crate) fn check_selectors(&self) -> Vec<ConfigProblem> {
        let servers = self.servers().map(|spec| (spec.id.as_str(), spec.tier.as_deref())).collect();
        let known = KnownServers::new(servers, &self.written_names, Undecided::Nothing);
        let mut checker = CrossChecker { file: &self.file, written: &self.written, problems: Vec::new() };
        checker.profiles(&known);
        let written = self.file.servers.iter().flat_map(|servers| &servers.value);
        let places =
            written.map(|server| Some(server.value.name_place(&server.location))).chain(std::iter::repeat(None));
        let ids = self.servers().zip(places).map(|(spec, place)| {
            (spec.id.as_str(), place.cloned().unwrap_or_else(|| Location::File(spec.model.clone())))
        });
        checker.routing(&known, ids.collect());
        checker.problems
    }

    fn extension_tables(&self) -> impl Iterator<Item = (&str, &Located<toml::Table>)> {
        self.file.extensions.iter().flat_map(|at| &at.value).map(|(name, table)| (name.as_str(), table))
    }

    fn profile_tables(&self) -> Option<&BTreeMap<String, Located<Profile>>> {
        self.file.profiles.as_ref().map(|at| &at.value)
    }

    fn chosen(&self, requested: Option<&str>) -> Result<Option<&Profile>, ConfigProblems> {
        let Some(name) = self.active_profile(requested) else { return Ok(None) };
        let tables = self.profile_tables();
        match tables.and_then(|tables| tables.get(name)) {
            Some(profile) => Ok(Some(&profile.value)),
            None => {
                let known = tables.into_iter().flat_map(BTreeMap::keys).map(String::as_str);
                Err(profiles::unknown(&Location::Argument("--profile"), name, known).into())
            }
        }
    }
}

fn selectors(profile: &Profile) -> Vec<SelectorMatcher<'_>> {
    let selectors = profile.servers.iter().flat_map(|servers| &servers.value);
    selectors.map(|selector| selector.value.matcher()).collect()
}

fn includes(selectors: &[SelectorMatcher<'_>], server: &Resolvable) -> bool {
    selectors.iter().any(|selector| selector.matches(server.spec.id.as_str(), server.spec.tier.as_deref()))
}

impl Resolvable {
    pub(crate) fn of(
        specs: &SpecBuilder<'_>,
        planned: &IdentifiedServer<'_>,
        common: &SharedDefaults,
    ) -> Result<Self, ConfigProblems> {
        let spec = specs.server(planned, common)?;
        let flags = planned.written.flags.as_ref().map(|at| flags::own(&at.value)).unwrap_or_default();
        let has_own_port = planned.written.port.is_some();
        Ok(Self { enabled: spec.enabled, spec: Arc::new(spec), flags, has_own_port })
    }
}

/// The built-in defaults as a tree.
pub(crate) fn built_in_tree(problems: &mut Vec<ConfigProblem>) -> Option<TomlNode> {
    toml_tree::parse(&document("config/default.toml", DEFAULT_TOML.into(), Layer::BuiltIn), problems)
}

/// The text of a source as a tree.
pub(crate) fn user_tree(source: &ConfigSource, problems: &mut Vec<ConfigProblem>) -> Option<TomlNode> {
    let name = source.path.as_ref().map_or("configuration".into(), |path| path.display().to_string());
    toml_tree::parse(&document(&name, source.text.clone(), Layer::User), problems)
}

fn document(name: &str, text: Arc<str>, layer: Layer) -> Arc<Document> {
    Arc::new(Document::new(name, text, layer))
}

/// Whether a place is on a line with one of these syntax errors: what else is wrong there is the same mistake.
fn misspelled(errors: &[ConfigProblem]) -> impl Fn(&Location) -> bool + use<> {
    let line = |location: &Location| location.line_and_column().map(|(line, _)| line);
    let lines: BTreeSet<_> = errors.iter().filter_map(|problem| line(&problem.location)).collect();
    move |location| !location.is_built_in() && line(location).is_some_and(|line| lines.contains(&line))
}
