//! Finds the configuration file: the first of the search, or none.
//!
//! At the start, whatever the user names is read, a pipe too. Later only a regular file is: another one took its place
//! behind the daemon's back, and a FIFO would keep the reader waiting.

use std::io;
use std::path::{Path, PathBuf};
use std::string::FromUtf8Error;
use std::sync::Arc;

use crate::environment::Environment;
use llama_warden_located_toml::{ConfigProblem, ConfigProblems, Document, Layer, Location};
use llama_warden_support::{is_descriptor, open_input, read_bounded, read_regular};

/// The built-in defaults, which are also the template: every key with its default and one line of documentation.
pub const DEFAULT_TOML: &str = include_str!("../../../../config/default.toml");

/// The most that is read of a configuration. The largest ones, with thousands of servers, take about a megabyte.
const MAX_BYTES: u64 = 16 << 20;

/// Whether a configuration can be read a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// There is no file: a text that a program made, or the built-in defaults alone.
    Text,
    /// A regular file.
    File,
    /// A pipe, a terminal or a descriptor of the process, such as `<(command)` and `/dev/stdin`: it gave its text once.
    Stream,
}

/// The configuration of a user: a text, which is laid over [`DEFAULT_TOML`], and folders that the command line names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigSource {
    /// The file as the user names it; `None` if no file was found, and only the built-in defaults apply.
    pub path: Option<PathBuf>,
    /// Whether it can be read again.
    pub kind: SourceKind,
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
        let (directory, text) = (directory.into(), text.into().into());
        Self { path: None, kind: SourceKind::Text, directory, text, model_dirs: Vec::new() }
    }

    /// Reads a file, or a pipe to its end. A relative path is relative to `directory`, and so are the paths in what is no
    /// regular file.
    pub fn read(path: &Path, directory: &Path) -> Result<Self, ConfigProblems> {
        let absolute = directory.join(path);
        let open = || {
            let file = open_input(&absolute)?;
            Ok((file.metadata()?.is_file() && !is_descriptor(&absolute), read_bounded(file, MAX_BYTES)?))
        };
        let (is_file, bytes) = open().map_err(|error| unreadable(path, &error))?;
        let text = String::from_utf8(bytes).map_err(|error| not_utf8(path, &error))?;
        let (kind, parent) = match is_file {
            true => (SourceKind::File, absolute.parent().unwrap_or(directory)),
            false => (SourceKind::Stream, directory),
        };
        let (path, directory) = (Some(path.to_path_buf()), parent.to_path_buf());
        Ok(Self { path, kind, directory, text: text.into(), model_dirs: Vec::new() })
    }

    /// The absolute path of its file; `None` where there is none that can be read again.
    pub fn file(&self) -> Option<PathBuf> {
        let path = self.path.as_ref().filter(|_| self.kind == SourceKind::File)?;
        Some(self.directory.join(path.file_name()?))
    }

    /// Reads its file again; `None` where there is none that can be read again.
    ///
    /// # Errors
    /// The file is gone, is no regular file any more, or cannot be read.
    pub fn read_again(&self) -> Option<Result<Self, ConfigProblems>> {
        let (file, path) = (self.file()?, self.path.as_ref()?);
        let bytes = read_config_file(&file).map_err(|error| unreadable(path, &error));
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).map_err(|error| not_utf8(path, &error)));
        Some(text.map(|text| Self { text: text.into(), ..self.clone() }))
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
    let Some(path) = found else { return Ok(ConfigSource::none(directory)) };
    // A file of the current directory is called by its name alone in messages. Below `/` lies everything, and no path is longer for it.
    let below = path.strip_prefix(directory).ok().filter(|_| directory.parent().is_some());
    ConfigSource::read(below.unwrap_or(&path), directory)
}

/// Where a configuration that nobody named is searched, in this order.
pub fn search_places(environment: &Environment, directory: &Path) -> Vec<PathBuf> {
    let below_home =
        environment.base_dir("XDG_CONFIG_HOME", ".config").map(|base| base.join("llama-warden/config.toml"));
    let places =
        [Some(directory.join("llama-warden.toml")), below_home, Some(PathBuf::from("/etc/llama-warden/config.toml"))];
    places.into_iter().flatten().collect()
}

/// Reads the regular file of a configuration without waiting: a path that has become a FIFO or a device is an error.
///
/// # Errors
/// Those of [`read_regular`].
pub fn read_config_file(path: &Path) -> io::Result<Vec<u8>> {
    read_regular(path, MAX_BYTES)
}

fn unreadable(path: &Path, error: &io::Error) -> ConfigProblems {
    let help = match error.kind() {
        io::ErrorKind::NotFound => "check the path, or start from the template that `llama-warden config init` prints",
        io::ErrorKind::TimedOut => {
            "name a regular file, or write to it; the daemon itself can be named with --address unix:STATE-DIR/control.sock"
        }
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
