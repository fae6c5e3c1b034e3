//! Finds the configuration file: the first of the search, or none.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::environment::Environment;
use crate::problem::{ConfigProblem, ConfigProblems, Location};

/// The built-in defaults, which are also the template: every key with its default and one line of documentation.
pub const DEFAULT_TOML: &str = include_str!("../../../../../config/default.toml");

/// The configuration of a user: a text, which is laid over [`DEFAULT_TOML`], and folders that the command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSource {
    /// The file as the user names it; `None` if no file was found, and only the built-in defaults apply.
    pub path: Option<PathBuf>,
    /// The base of relative paths in the text; absolute.
    pub directory: PathBuf,
    /// The text of the user. Shared, since it is as large as the file.
    pub text: Arc<str>,
    /// Folders with models beside those of `models.dirs`, absolute.
    pub model_dirs: Vec<PathBuf>,
}

impl ConfigSource {
    /// No file: the built-in defaults alone.
    pub fn none(directory: impl Into<PathBuf>) -> Self {
        Self::text(directory, "")
    }

    /// A text without a file, such as the one that `demo` generates.
    pub fn text(directory: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self { path: None, directory: directory.into(), text: text.into().into(), model_dirs: Vec::new() }
    }

    /// Reads a file. A relative path is relative to `directory`.
    pub fn read(path: &Path, directory: &Path) -> Result<Self, ConfigProblems> {
        let absolute = directory.join(path);
        let text = std::fs::read_to_string(&absolute).map_err(|error| unreadable(path, &error))?;
        let parent = absolute.parent().unwrap_or(directory).to_path_buf();
        Ok(Self { path: Some(path.to_path_buf()), directory: parent, text: text.into(), model_dirs: Vec::new() })
    }

    /// With more folders of models, absolute.
    #[must_use]
    pub fn with_model_dirs(self, model_dirs: Vec<PathBuf>) -> Self {
        Self { model_dirs, ..self }
    }
}

/// Finds the configuration: `explicit` (`--config`), else `LLAMA_WARDEN_CONFIG`, else the first that exists of
/// `./llama-warden.toml`, `$XDG_CONFIG_HOME/llama-warden/config.toml` and `/etc/llama-warden/config.toml`, else none.
///
/// A file that was named, or that exists, and cannot be read is an error; the search never skips it silently.
pub fn find(
    explicit: Option<&Path>,
    environment: &Environment,
    directory: &Path,
) -> Result<ConfigSource, ConfigProblems> {
    let named = explicit.or_else(|| environment.get("LLAMA_WARDEN_CONFIG").map(Path::new));
    if let Some(path) = named {
        return ConfigSource::read(path, directory);
    }
    let found = search_places(environment, directory).into_iter().find(|path| path.symlink_metadata().is_ok());
    // A file of the current directory is called by its name alone in messages.
    found.map_or_else(
        || Ok(ConfigSource::none(directory)),
        |path| ConfigSource::read(path.strip_prefix(directory).unwrap_or(&path), directory),
    )
}

/// Where a configuration that nobody named is searched, in this order.
pub fn search_places(environment: &Environment, directory: &Path) -> Vec<PathBuf> {
    let below_home =
        environment.base_dir("XDG_CONFIG_HOME", ".config").map(|base| base.join("llama-warden/config.toml"));
    let places =
        [Some(directory.join("llama-warden.toml")), below_home, Some(PathBuf::from("/etc/llama-warden/config.toml"))];
    places.into_iter().flatten().collect()
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigProblems {
    let help = match error.kind() {
        io::ErrorKind::NotFound => "check the path, or start from the template that `llama-warden config init` prints",
        io::ErrorKind::InvalidData => "a configuration is TOML, in UTF-8",
        _ => "check the path and its permissions",
    };
    ConfigProblem::error(&Location::File(path.to_path_buf()), format!("cannot be read: {error}"), help).into()
}
