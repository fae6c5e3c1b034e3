//! All plug-in files of one kind: those of a directory, then the built-in ones, the fallback last.
//!
//! Invariants: names are unique; the last file is the fallback; a file whose new text is refused stays in force with its old
//! text, for as long as the file exists.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_events::FileRefusal;
use llama_warden_support::open_input;

use crate::choose::{Choice, choose};
use crate::file::PluginFile;
use crate::file_error::{FileError, TEXT_LIMIT};
use crate::origin::Origin;

#[cfg(test)]
mod tests;

/// The files in force: those of a directory, then the built-in ones, the fallback last. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PluginSet<F> {
    files: Arc<[F]>,
}

/// The result of reading a directory.
#[derive(Debug)]
pub struct ScanResult<F> {
    /// The files in force from now on.
    pub files: PluginSet<F>,
    /// The files that were refused. One that was valid before is still part of `files`, with its old text.
    pub refused: Vec<PluginSetError>,
}

/// Why a file, or a whole directory, could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum PluginSetError {
    /// The directory exists and cannot be read.
    #[error("cannot read the directory `{}`", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file cannot be read, or is not UTF-8.
    #[error("cannot read the {kind} `{}`", path.display())]
    File {
        /// The kind of file, such as `pack`.
        kind: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file is not valid.
    #[error(transparent)]
    Invalid(#[from] FileError),
    /// Two files have the same name.
    #[error("`{}` and `{}` both define the {kind} `{name}`: rename one", first.display(), second.display())]
    SameName {
        /// The kind of file, such as `pack`.
        kind: &'static str,
        /// The name that both have.
        name: String,
        /// The file that is in force.
        first: PathBuf,
        /// The file that is refused.
        second: PathBuf,
    },
}

impl<F: PluginFile> PluginSet<F> {
    /// The built-in files alone.
    pub fn built_in() -> Self {
        // The built-in files are valid: a test of each kind parses all of them.
        let fallback = F::parse(&Origin::BuiltIn, F::FALLBACK_TEXT.into(), None);
        fallback.map_or_else(|_| Self { files: Arc::new([]) }, |fallback| Self::complete(Vec::new(), fallback))
    }

    /// The files of a directory (`*.toml`, by file name) and the built-in ones. A missing directory is empty.
    ///
    /// # Errors
    /// The first file that is refused.
    pub fn load(directory: &Path) -> Result<Self, PluginSetError> {
        let ScanResult { files, refused } = Self::built_in().scan(directory);
        refused.into_iter().next().map_or(Ok(files), Err)
    }

    /// The files of the configured directory, if there is one, and the built-in ones.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn configured(directory: Option<&Path>) -> Result<Self, PluginSetError> {
        directory.map_or_else(|| Ok(Self::built_in()), Self::load)
    }

    /// Reads the directory again. A file whose new text is refused keeps the text that it has in this set.
    pub fn scan(&self, directory: &Path) -> ScanResult<F> {
        let mut refused = Vec::new();
        let paths = match plugin_paths(directory) {
            Ok(paths) => paths,
            Err(error) => return ScanResult { files: self.clone(), refused: vec![error] },
        };
        let mut texts = Vec::new();
        for path in paths {
            match read(&path) {
                Ok(text) => texts.push((path, Some(text))),
                // An editor replaced the file between listing and reading. The next scan sees the new one.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => {
                    refused.push(PluginSetError::File { kind: F::KIND, path: path.clone(), source });
                    texts.push((path, None));
                }
            }
        }
        let files = self.assemble(texts, &mut refused);
        ScanResult { files, refused }
    }

    /// Parses the texts of a directory; `None` is the text of a file that could not be read.
    fn assemble(&self, texts: Vec<(PathBuf, Option<String>)>, refused: &mut Vec<PluginSetError>) -> Self {
        let Some(fallback) = self.find_fallback(&texts) else { return self.clone() };
        // Every file contains parts of the fallback: a new fallback makes all of them parse again.
        let is_same_fallback = self.fallback().is_some_and(|before| same(before, &fallback));
        let mut files: Vec<F> = Vec::new();
        for (path, text) in texts {
            let kept = self.file_at(&path);
            let unchanged = |text: &str| is_same_fallback && kept.is_some_and(|kept| kept.text() == text);
            let parsed = text
                .filter(|text| !unchanged(text))
                .and_then(|text| parse(&path, &text, &fallback).map_err(|error| refused.push(error.into())).ok());
            let Some(file) = parsed.or_else(|| kept.cloned()) else { continue };
            match files.iter().find(|other| other.name() == file.name()) {
                None => files.push(file),
                Some(other) => {
                    let first = other.origin().path().map(Path::to_owned).unwrap_or_default();
                    let name = file.name().to_owned();
                    refused.push(PluginSetError::SameName { kind: F::KIND, name, first, second: path });
                }
            }
        }
        Self::complete(files, fallback)
    }

    /// The fallback: one of the directory, else the built-in one. It is found before any other file is parsed, since the
    /// others are completed by it.
    fn find_fallback(&self, texts: &[(PathBuf, Option<String>)]) -> Option<F> {
        let of_directory = texts.iter().find_map(|(path, text)| {
            let kept = self.file_at(path);
            let changed = text.as_ref().filter(|text| kept.is_none_or(|kept| kept.text() != *text));
            // A text that does not parse without a fallback may need one: then it is not the fallback.
            let parsed = changed.and_then(|text| F::parse(&Origin::File(path.clone()), text.clone().into(), None).ok());
            parsed.or_else(|| kept.cloned()).filter(|file| file.name() == F::FALLBACK)
        });
        let built_in = || self.fallback().filter(|fallback| fallback.origin() == &Origin::BuiltIn).cloned();
        of_directory.or_else(built_in).or_else(|| F::parse(&Origin::BuiltIn, F::FALLBACK_TEXT.into(), None).ok())
    }

    /// Adds the built-in files that `files` does not replace, and the fallback last.
    fn complete(mut files: Vec<F>, fallback: F) -> Self {
        for text in F::BUILT_IN {
            // The built-in files are valid: a test of each kind parses all of them.
            let Ok(file) = F::parse(&Origin::BuiltIn, (*text).into(), Some(&fallback)) else { continue };
            if files.iter().all(|other| other.name() != file.name()) {
                files.push(file);
            }
        }
        files.retain(|file| file.name() != F::FALLBACK);
        files.push(fallback);
        Self { files: files.into() }
    }

    /// Parses a file that is not part of the set, as if it were.
    ///
    /// # Errors
    /// If the file cannot be read, or is not valid.
    pub fn read(&self, path: &Path) -> Result<F, PluginSetError> {
        let text =
            read(path).map_err(|source| PluginSetError::File { kind: F::KIND, path: path.to_owned(), source })?;
        Ok(self.parse(path, &text)?)
    }

    /// Parses a text as if it were the file `path` of the set's directory.
    ///
    /// # Errors
    /// If the text is not valid.
    pub fn parse(&self, path: &Path, text: &str) -> Result<F, FileError> {
        match self.fallback() {
            Some(fallback) => parse(path, text, fallback),
            None => F::parse(&Origin::File(path.to_owned()), text.to_owned().into(), None),
        }
    }

    /// Every file, in order of precedence.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &F> {
        self.files.iter()
    }

    /// The file with this name.
    pub fn get(&self, name: &str) -> Option<&F> {
        self.iter().find(|file| file.name() == name)
    }

    /// Chooses the file for a build, as [`choose()`] does. `None` only for an empty set.
    pub fn choose(&self, build: Option<u64>, options: &[String], forced: Option<&str>) -> Option<Choice<F>> {
        choose(&self.files, build, options, forced)
    }

    fn fallback(&self) -> Option<&F> {
        self.files.last()
    }

    fn file_at(&self, path: &Path) -> Option<&F> {
        self.iter().find(|file| file.origin().path() == Some(path))
    }
}

impl PluginSetError {
    /// The refusal in the form that events carry.
    pub fn refusal(&self) -> FileRefusal {
        let whole_file = |file: &Path, message: String, advice: String| FileRefusal {
            file: file.to_owned(),
            line: None,
            column: None,
            message,
            advice,
        };
        match self {
            Self::Invalid(error) => FileRefusal {
                file: error.file.clone().into(),
                line: Some(error.line),
                column: Some(error.column),
                message: error.message.clone(),
                advice: error.advice.clone(),
            },
            Self::Directory { path, source } | Self::File { path, source, .. } => {
                whole_file(path, format!("{self}: {source}"), "let the daemon's user read it".to_owned())
            }
            Self::SameName { kind, second, .. } => {
                whole_file(second, self.to_string(), format!("rename one of the two {kind}s"))
            }
        }
    }
}

/// Whether two files have the same origin and text, so that nothing in them differs.
pub(crate) fn same<F: PluginFile>(one: &F, other: &F) -> bool {
    one.origin() == other.origin() && one.text() == other.text()
}

/// Parses a file of a directory. One with the fallback's name is the fallback, and parsed without another one.
fn parse<F: PluginFile>(path: &Path, text: &str, fallback: &F) -> Result<F, FileError> {
    let origin = Origin::File(path.to_owned());
    match F::parse(&origin, text.to_owned().into(), Some(fallback)) {
        Ok(file) if file.name() == F::FALLBACK => F::parse(&origin, text.to_owned().into(), None),
        parsed => parsed,
    }
}

/// Reads a text up to one byte beyond the limit, which is enough to refuse it for its length.
fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    open_input(path)?.take(TEXT_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > TEXT_LIMIT {
        // The cut may fall within a character. The text is refused for its length, not for that.
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The plug-in files of a directory, sorted by path.
fn plugin_paths(directory: &Path) -> Result<Vec<PathBuf>, PluginSetError> {
    let failed = |source| PluginSetError::Directory { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        // Only regular files: opening a FIFO would block until a process writes to it.
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
