//! Finds, parses and resolves the configuration for this machine.

use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_api_types::ConfigurationPlace;
use llama_warden_config::{
    ConfigProblem, ConfigProblems, ConfigSource, Configuration, Environment, Fleet, HostEnvironment, RenderStyle,
    RouterAddress, User, default_state_dir, find,
};
use llama_warden_exit::CommandFailure;
use llama_warden_support::{for_terminal, naming_program};
use toml::de::DeTable;

/// A configuration, and what it was parsed from.
#[derive(Debug, Clone)]
pub struct LoadedConfig {
    /// The configuration. Shared, since it is as large as its file.
    pub configuration: Arc<Configuration>,
    /// The text and path that it was parsed from.
    pub source: ConfigSource,
    /// The environment variables that override it.
    pub environment: Environment,
}

impl LoadedConfig {
    /// Finds and parses the configuration.
    ///
    /// # Errors
    /// Every problem, with its place.
    pub fn find(explicit: Option<&Path>) -> Result<Self, CommandFailure> {
        Self::find_with_models(explicit, &[])
    }

    /// Like [`Self::find`], with model folders of the command line.
    ///
    /// # Errors
    /// As [`Self::find`]; a folder cannot be read.
    pub fn find_with_models(explicit: Option<&Path>, folders: &[PathBuf]) -> Result<Self, CommandFailure> {
        let environment = Environment::current();
        let directory = current_directory()?;
        let folders = folders.iter().map(|folder| models_folder(folder, &directory)).collect::<Result<_, _>>()?;
        let source = find(explicit, &environment, &directory)?.with_model_dirs(folders);
        Self::parse(&source, environment)
    }

    /// Like [`Self::find`], but goes on after a problem: gives the problems beside what can be read.
    ///
    /// # Errors
    /// Nothing can be read, with every problem.
    pub fn examine(explicit: Option<&Path>) -> Result<(Self, ConfigProblems), CommandFailure> {
        let environment = Environment::current();
        let source = find(explicit, &environment, &current_directory()?)?;
        match Configuration::examine(&source, &environment) {
            (Some(configuration), problems) => {
                Ok((Self { configuration: Arc::new(configuration), source, environment }, problems))
            }
            (None, problems) => Err(problems.into()),
        }
    }

    /// Reads the configuration of a running daemon.
    ///
    /// # Errors
    /// Every problem, with its place; the daemon may have read the file before it was changed, or on another machine.
    pub fn of_daemon(place: &ConfigurationPlace) -> Result<Self, CommandFailure> {
        let directory = Path::new("/");
        let source = match &place.file {
            Some(path) => ConfigSource::read(path, directory)?,
            None => ConfigSource::none(directory),
        };
        Self::parse(&source.with_model_dirs(place.model_dirs.clone()), Environment::current())
    }

    /// Where it was read.
    pub fn place(&self) -> ConfigurationPlace {
        let name = self.source.path.as_ref().and_then(|path| path.file_name());
        ConfigurationPlace {
            file: name.map(|name| self.source.directory.join(name)),
            model_dirs: self.source.model_dirs.clone(),
        }
    }

    /// Parses a source.
    ///
    /// # Errors
    /// Every problem, with its place.
    pub fn parse(source: &ConfigSource, environment: Environment) -> Result<Self, CommandFailure> {
        let configuration = Configuration::parse(source, &environment)?;
        Ok(Self { configuration: Arc::new(configuration), source: source.clone(), environment })
    }

    /// Finds the configuration of a daemon to talk to. Of an invalid one, only the valid keys that lead to the daemon are kept, beside
    /// the problems: it may have been edited since the daemon read it. Reads it once, since a pipe gives its text once.
    ///
    /// # Errors
    /// The file cannot be read, or names a state directory that cannot be made out: then another daemon would be meant.
    pub fn find_daemon(explicit: Option<&Path>) -> Result<(Self, Option<ConfigProblems>), CommandFailure> {
        let environment = Environment::current();
        let directory = current_directory().unwrap_or_else(|_| "/".into());
        let source = find(explicit, &environment, &directory)?;
        let problems = match Configuration::parse(&source, &environment) {
            Ok(configuration) => {
                return Ok((Self { configuration: Arc::new(configuration), source, environment }, None));
            }
            Err(problems) => problems,
        };
        let loaded = Self::parse(&keep_daemon_keys(&source), environment)?;
        if loaded.configuration.daemon().state_dir.is_none() && source.text.contains("state-dir") {
            return Err(CommandFailure::usage(
                "the configuration is invalid, and its state directory cannot be read from it",
            )
            .next_step("fix it (`llama-warden check` shows each problem), or name the daemon with --address"));
        }
        Ok((loaded, Some(problems)))
    }

    /// The servers for this machine and a profile.
    ///
    /// # Errors
    /// There is no such profile.
    pub fn fleet(&self, profile: Option<&str>) -> Result<Fleet, CommandFailure> {
        Ok(self.with_slot_folders(self.configuration.resolve(profile, &HostEnvironment::current())?))
    }

    /// The servers, with a folder below the state directory for each whose slots are kept.
    pub fn with_slot_folders(&self, fleet: Fleet) -> Fleet {
        let listens = self.configuration.router().listen != RouterAddress::Off;
        let keeps = listens && fleet.iter().any(|spec| spec.router.keeps_cache);
        let Some(folders) = self.state_dir().ok().filter(|_| keeps).map(|state| slot_folders(&state)) else {
            return fleet;
        };
        Fleet::new(fleet.iter().map(|spec| match spec.router.keeps_cache {
            true => spec.saving_slots_in(&folders.join(spec.id.as_str())),
            false => spec.clone(),
        }))
    }

    /// The state directory of the daemon of this configuration.
    ///
    /// # Errors
    /// None is configured, and HOME is not set.
    pub fn state_dir(&self) -> Result<PathBuf, CommandFailure> {
        let user = if nix::unistd::geteuid().is_root() { User::Root } else { User::Ordinary };
        let configured = self.configuration.daemon().state_dir.clone();
        configured.or_else(|| default_state_dir(&self.environment, user)).ok_or_else(|| {
            CommandFailure::usage("there is no directory for the daemon's state: HOME is not set")
                .next_step("name one as daemon.state-dir, or in LLAMA_WARDEN_DAEMON__STATE_DIR")
        })
    }

    /// The control socket of the daemon of this configuration.
    ///
    /// # Errors
    /// As [`Self::state_dir`].
    pub fn control_socket(&self) -> Result<PathBuf, CommandFailure> {
        Ok(control_socket(&self.state_dir()?))
    }
}

/// The folder in a state directory that has a folder for the slots of each server.
pub fn slot_folders(state_dir: &Path) -> PathBuf {
    state_dir.join("slots")
}

/// The path of the control socket in a state directory.
pub fn control_socket(state_dir: &Path) -> PathBuf {
    state_dir.join("control.sock")
}

/// The source, reduced to the keys that lead to its daemon. If the syntax is broken, the parser's recovery counts. Each key
/// is kept only if the result is still valid.
fn keep_daemon_keys(source: &ConfigSource) -> ConfigSource {
    let (table, _) = DeTable::parse_recoverable(&source.text);
    let daemon = table.get_ref().get("daemon").and_then(|daemon| daemon.get_ref().as_table());
    let with = |text: String| ConfigSource { text: text.into(), ..source.clone() };
    ["state-dir", "token-file", "listen"].into_iter().fold(with("[daemon]\n".to_owned()), |kept, key| {
        let value = daemon.and_then(|daemon| daemon.get(key)?.get_ref().as_str());
        let more = value.map(|value| with(format!("{}{key} = {}\n", kept.text, toml::Value::from(value))));
        more.filter(|more| Configuration::parse(more, &Environment::default()).is_ok()).unwrap_or(kept)
    })
}

/// The absolute path of a model folder of the command line. An unreadable one is an error: nothing of it could run.
fn models_folder(folder: &Path, directory: &Path) -> Result<PathBuf, CommandFailure> {
    let absolute = directory.join(folder);
    match std::fs::read_dir(&absolute) {
        Ok(_) => Ok(absolute),
        Err(error) => {
            let message = format!("--models {}: cannot be read as a folder: {error}", folder.display());
            Err(CommandFailure::usage(message).next_step("name an existing folder with GGUF files in or below it"))
        }
    }
}

/// Prints problems to standard error, in colour on a terminal. A closed standard error loses them; the exit code
/// remains.
pub fn print_problems(problems: &ConfigProblems) {
    let text = naming_program(problems.render(style()));
    let shown = if std::io::stderr().is_terminal() { for_terminal(&text) } else { text.as_str().into() };
    let _ = writeln!(std::io::stderr(), "{shown}");
}

/// Prints warnings to standard error, if there are any.
pub fn print_warnings(problems: Vec<ConfigProblem>) {
    if !problems.is_empty() {
        print_problems(&ConfigProblems(problems));
    }
}

fn style() -> RenderStyle {
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if coloured { RenderStyle::Coloured } else { RenderStyle::Plain }
}

fn current_directory() -> Result<PathBuf, CommandFailure> {
    std::env::current_dir().map_err(|error| {
        CommandFailure::failed(format!("cannot read the current directory: {error}"))
            .next_step("change into a directory that exists")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The state directory and the token file that are still found in an invalid text.
    fn found(text: &str) -> (Option<PathBuf>, Option<PathBuf>) {
        let kept = keep_daemon_keys(&ConfigSource::text("/etc/warden", text));
        let loaded = LoadedConfig::parse(&kept, Environment::default()).unwrap_or_else(|failure| panic!("{failure:?}"));
        let daemon = loaded.configuration.daemon();
        (daemon.state_dir.clone(), daemon.token_file.clone())
    }

    #[test]
    fn an_invalid_configuration_still_leads_to_its_daemon() {
        let state = Some(PathBuf::from("/etc/warden/st\"ate"));
        let token = Some(PathBuf::from("/etc/warden/token"));
        let right = "[daemon]\nstate-dir = 'st\"ate'\ntoken-file = 'token'\n";
        for wrong in ["bogus = 1\n", "listen = 'nonsense'\n", "[[servers]]\nid = 1\n", "[stop\ngrace = \n"] {
            assert_eq!(found(&format!("{right}{wrong}")), (state.clone(), token.clone()), "{wrong}");
        }
        assert_eq!(found("[daemon]\nstate-dir = 1\ntoken-file = 'token'\n"), (None, token));
        for nothing in ["", "daemon = 1\n", "\"\"\"", "[stop]\ngrase = '1s'\n"] {
            assert_eq!(found(nothing), (None, None), "{nothing}");
        }
    }

    #[test]
    fn the_shipped_configurations_are_valid() {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../config");
        for (file, servers) in [("default.toml", 0), ("llama-warden.example.toml", 3), ("docker/llama-warden.toml", 0)]
        {
            let source = ConfigSource::read(&config.join(file), &config).expect("readable");
            let loaded =
                LoadedConfig::parse(&source, Environment::default()).unwrap_or_else(|failure| panic!("{failure:?}"));
            assert_eq!(loaded.fleet(None).expect("no profile").iter().len(), servers, "{file}");
        }
    }
}
