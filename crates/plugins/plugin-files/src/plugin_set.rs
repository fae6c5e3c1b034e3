//! All files of one kind: those of a directory, before those that are built in.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_events::FileRefusal;

use crate::choose::{Choice, choose};
use crate::file::PluginFile;
use crate::file_error::{FileError, TEXT_LIMIT};
use crate::origin::Origin;

#[cfg(test)]
mod tests;

/// The files in force, those of a directory before the built-in ones, the fallback last. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PluginSet<F> {
    files: Arc<[F]>,
}

/// What a look into a directory brought.
#[derive(Debug)]
pub struct ScanResult<F> {
    /// The files in force from now on.
    pub files: PluginSet<F>,
    /// What was refused. Where a file was valid before, what it said then is still part of the library.
    pub refused: Vec<PluginSetError>,
}

/// Why a file, or all those of a directory, could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum PluginSetError {
    /// The directory exists and cannot be read.
    #[error("cannot read the directory `{}`", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file cannot be read, or is no text.
    #[error("cannot read the {kind} `{}`", path.display())]
    File {
        /// What it would be.
        kind: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not valid.
    #[error(transparent)]
    Invalid(#[from] FileError),
    /// Two files have one name.
    #[error("`{}` and `{}` both define the {kind} `{name}`: rename one", first.display(), second.display())]
    SameName {
        /// What they define.
        kind: &'static str,
        /// The name.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
}

impl<F: PluginFile> PluginSet<F> {
    /// The built-in files alone.
    pub fn built_in() -> Self {
        // The built-in files are valid: a test of each kind reads all of them.
        let fallback = F::parse(&Origin::BuiltIn, F::FALLBACK_TEXT.into(), None);
        fallback.map_or_else(|_| Self { files: Arc::new([]) }, |fallback| Self::complete(Vec::new(), fallback))
    }

    /// The files of a directory (`*.toml`, by file name) before the built-in ones. A missing directory is empty.
    ///
    /// # Errors
    /// The first file that is refused.
    pub fn load(directory: &Path) -> Result<Self, PluginSetError> {
        let ScanResult { files, refused } = Self::built_in().scan(directory);
        refused.into_iter().next().map_or(Ok(files), Err)
    }

    /// The files as the directory is now. What a file said in this library stays where its new text is refused.
    pub fn scan(&self, directory: &Path) -> ScanResult<F> {
        let mut refused = Vec::new();
        let paths = match data_files(directory) {
            Ok(paths) => paths,
            Err(error) => return ScanResult { files: self.clone(), refused: vec![error] },
        };
        let mut texts = Vec::new();
        for path in paths {
            match read(&path) {
                Ok(text) => texts.push((path, Some(text))),
                // An editor replaced it between listing and reading; the next look sees what is there then.
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

    fn assemble(&self, texts: Vec<(PathBuf, Option<String>)>, refused: &mut Vec<PluginSetError>) -> Self {
        let Some(fallback) = self.find_fallback(&texts) else { return self.clone() };
        let is_same_fallback = self.fallback().is_some_and(|before| same(before, &fallback));
        let mut files: Vec<F> = Vec::new();
        for (path, text) in texts {
            let kept = self.file_at(&path);
            let file = match text {
                Some(text) if is_same_fallback && kept.is_some_and(|kept| kept.text() == text) => kept.cloned(),
                Some(text) => parse(&path, &text, &fallback)
                    .map_err(|error| refused.push(error.into()))
                    .ok()
                    .or_else(|| kept.cloned()),
                None => kept.cloned(),
            };
            let Some(file) = file else { continue };
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

    /// The fallback: one of the directory, else the built-in one.
    fn find_fallback(&self, texts: &[(PathBuf, Option<String>)]) -> Option<F> {
        let of_directory = texts.iter().find_map(|(path, text)| {
            let kept = self.file_at(path);
            let parsed = text.as_ref().filter(|text| kept.is_none_or(|kept| kept.text() != *text));
            let file = match parsed.map(|text| F::parse(&Origin::File(path.clone()), text.clone().into(), None)) {
                Some(Ok(file)) => Some(file),
                // It may need the fallback that it lies before; then it is not the fallback.
                Some(Err(_)) | None => kept.cloned(),
            };
            file.filter(|file| file.name() == F::FALLBACK)
        });
        let built_in = || self.fallback().filter(|fallback| fallback.origin() == &Origin::BuiltIn).cloned();
        of_directory.or_else(built_in).or_else(|| F::parse(&Origin::BuiltIn, F::FALLBACK_TEXT.into(), None).ok())
    }

    /// Puts the built-in files behind those of the directory, and the fallback last.
    fn complete(mut files: Vec<F>, fallback: F) -> Self {
        for text in F::BUILT_IN {
            // The built-in files are valid: a test of each kind reads all of them.
            let Ok(file) = F::parse(&Origin::BuiltIn, (*text).into(), Some(&fallback)) else { continue };
            if files.iter().all(|other| other.name() != file.name()) {
                files.push(file);
            }
        }
        files.retain(|file| file.name() != F::FALLBACK);
        files.push(fallback);
        Self { files: files.into() }
    }

    /// Reads a file that is no part of the library, as if it were.
    ///
    /// # Errors
    /// Where the file cannot be read, or is not valid.
    pub fn read(&self, path: &Path) -> Result<F, PluginSetError> {
        let text =
            read(path).map_err(|source| PluginSetError::File { kind: F::KIND, path: path.to_owned(), source })?;
        Ok(self.parse(path, &text)?)
    }

    /// The same from a text that would be the file `path`.
    ///
    /// # Errors
    /// Where it is not valid.
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

    /// The file of that name.
    pub fn get(&self, name: &str) -> Option<&F> {
        self.iter().find(|file| file.name() == name)
    }

    /// The file for a build: the one that is named, else the most specific one that fits. `None` only for an empty
    /// library.
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

impl<F: PluginFile> Default for PluginSet<F> {
    fn default() -> Self {
        Self::built_in()
    }
}

impl PluginSetError {
    /// The same as events carry it.
    pub fn refusal(&self) -> FileRefusal {
        let whole = |file: &Path, message: String, advice: String| FileRefusal {
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
                whole(path, format!("{self}: {source}"), "let the daemon's user read it".to_owned())
            }
            Self::SameName { kind, second, .. } => {
                whole(second, self.to_string(), format!("rename one of the two {kind}s"))
            }
        }
    }
}

/// Whether two files are one: nothing in them can differ.
pub(crate) fn same<F: PluginFile>(one: &F, other: &F) -> bool {
    one.origin() == other.origin() && one.text() == other.text()
}

/// A file of a directory: the fallback where it is called so, else what lies before `fallback`.
fn parse<F: PluginFile>(path: &Path, text: &str, fallback: &F) -> Result<F, FileError> {
    let origin = Origin::File(path.to_owned());
    match F::parse(&origin, text.to_owned().into(), Some(fallback)) {
        Ok(file) if file.name() == F::FALLBACK => F::parse(&origin, text.to_owned().into(), None),
        parsed => parsed,
    }
}

/// A text of any length is read no further than it takes to refuse it.
fn read(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(TEXT_LIMIT as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > TEXT_LIMIT {
        // It is refused for its length, also where that ends within a character.
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn data_files(directory: &Path) -> Result<Vec<PathBuf>, PluginSetError> {
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
        // Only regular files: a FIFO of that name would block whoever reads it.
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
