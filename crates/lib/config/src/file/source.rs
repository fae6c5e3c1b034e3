//! Finds the configuration file: the first of the search, or none.

use std::io;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;
use std::sync::Arc;

use crate::environment::Environment;
use crate::problem::{ConfigProblem, ConfigProblems, Document, Layer, Location};

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
        let bytes = std::fs::read(&absolute).map_err(|error| unreadable(path, &error))?;
        let text = String::from_utf8(bytes).map_err(|error| not_utf8(path, &error))?;
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
    let below_home =
        environment.base_dir("XDG_CONFIG_HOME", ".config").map(|base| base.join("llama-warden/config.toml"));
    let candidates =
        [Some(PathBuf::from("llama-warden.toml")), below_home, Some(PathBuf::from("/etc/llama-warden/config.toml"))];
    let found = candidates.into_iter().flatten().find(|path| directory.join(path).symlink_metadata().is_ok());
    found.map_or_else(|| Ok(ConfigSource::none(directory)), |path| ConfigSource::read(&path, directory))
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigProblems {
    let help = match error.kind() {
        io::ErrorKind::NotFound => "check the path, or start from the template config/default.toml",
        _ => "check the path and its permissions",
    };
    ConfigProblem::error(&Location::File(path.to_path_buf()), format!("cannot be read: {error}"), help).into()
}

/// A text in another encoding, with the place of its first byte that is not UTF-8.
fn not_utf8(path: &Path, error: &FromUtf8Error) -> ConfigProblems {
    let (bytes, start) = (error.as_bytes(), error.utf8_error().valid_up_to());
    let name = path.display().to_string();
    let document = Arc::new(Document::new(name.clone(), String::from_utf8_lossy(bytes), Layer::User));
    let span = start..start + char::REPLACEMENT_CHARACTER.len_utf8();
    let byte = bytes.get(start).copied().unwrap_or_default();
    let (message, encoding) = match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => ("the file is UTF-16, not UTF-8".to_owned(), "UTF-16"),
        _ => {
            let letter = char::from(byte);
            let meant = if letter.is_alphanumeric() { format!(", in Latin-1 `{letter}`") } else { String::new() };
            (format!("the byte 0x{byte:02X} is not UTF-8{meant}"), "LATIN1")
        }
    };
    let help = format!("save the file as UTF-8: `iconv -f {encoding} -t UTF-8 {name} > NEW`");
    ConfigProblem::error(&Location::Text { document, span }, message, help).into()
}
