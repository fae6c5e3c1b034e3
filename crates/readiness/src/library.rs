//! All detector packs: those of a directory, before those that are built in.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::pack::PackOrigin;
use crate::{Choice, Pack, PackError, Pattern, PatternVerdict, choose};

#[cfg(test)]
mod tests;

/// The name of the pack that fits every build.
pub const GENERIC: &str = "generic";

const GENERIC_TEXT: &str = include_str!("../../../config/detectors/generic.toml");

/// Newest era first.
const BUILT_IN: [&str; 6] = [
    include_str!("../../../config/detectors/llama-server-b11xxx.toml"),
    include_str!("../../../config/detectors/llama-server-b9xxx.toml"),
    include_str!("../../../config/detectors/llama-server-2024-08.toml"),
    include_str!("../../../config/detectors/llama-server-2024-02.toml"),
    include_str!("../../../config/detectors/llama-server-2024-01.toml"),
    include_str!("../../../config/detectors/llama-server-2023-12.toml"),
];

/// The packs in force, those of a directory before the built-in ones, the generic one last. Cheap to clone.
#[derive(Debug, Clone)]
pub struct PackLibrary {
    packs: Arc<[Pack]>,
    /// What stands behind the patterns of every pack.
    shared: Arc<[Pattern]>,
}

/// What a look into a directory brought.
#[derive(Debug)]
pub struct Survey {
    /// The packs in force from now on.
    pub library: PackLibrary,
    /// What was refused. Where a file was valid before, what it said then is still part of the library.
    pub refused: Vec<LibraryError>,
}

/// Why a pack, or all those of a directory, could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The directory exists and cannot be read.
    #[error("cannot read the detector directory `{}`", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be read, or is no text.
    #[error("cannot read the detector pack `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A pack is not valid.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// Two files define packs of one name.
    #[error("`{}` and `{}` both define the pack `{name}`: rename one", first.display(), second.display())]
    SameName {
        /// The name.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
}

impl PackLibrary {
    /// The built-in packs alone.
    pub fn built_in() -> Self {
        // The built-in packs are valid: a test reads each of them.
        let generic = Pack::parse(PackOrigin::BuiltIn, GENERIC_TEXT, &[]);
        generic.map_or_else(
            |_| Self { packs: Arc::default(), shared: Arc::default() },
            |generic| {
                let shared = shared_patterns(&generic);
                Self::complete(Vec::new(), generic, shared)
            },
        )
    }

    /// The packs of a directory (`*.toml`, by file name) before the built-in ones. A missing directory is empty.
    ///
    /// # Errors
    /// The first file that is refused.
    pub fn load(directory: &Path) -> Result<Self, LibraryError> {
        let Survey { library, refused } = Self::built_in().survey(directory);
        refused.into_iter().next().map_or(Ok(library), Err)
    }

    /// The packs as the directory is now. What a file said in this library stays where its new text is refused.
    pub fn survey(&self, directory: &Path) -> Survey {
        let mut refused = Vec::new();
        let paths = match pack_files(directory) {
            Ok(paths) => paths,
            Err(error) => return Survey { library: self.clone(), refused: vec![error] },
        };
        let mut texts = Vec::new();
        for path in paths {
            match std::fs::read_to_string(&path) {
                Ok(text) => texts.push((path, Some(text))),
                // An editor replaced it between listing and reading; the next look sees what is there then.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    refused.push(LibraryError::File { path: path.clone(), source });
                    texts.push((path, None));
                }
            }
        }
        let library = self.assemble(texts, &mut refused);
        Survey { library, refused }
    }

    fn assemble(&self, texts: Vec<(PathBuf, Option<String>)>, refused: &mut Vec<LibraryError>) -> Self {
        let Some(generic) = self.generic_of(&texts) else { return self.clone() };
        let shared = shared_patterns(&generic);
        let mut packs: Vec<Pack> = Vec::new();
        for (path, text) in texts {
            let kept = self.of_file(&path);
            let pack = match text {
                Some(text) if shared == self.shared && kept.is_some_and(|kept| kept.text() == text) => kept.cloned(),
                Some(text) => Pack::parse(PackOrigin::File(path.clone()), &text, &shared)
                    .map_err(|error| refused.push(error.into()))
                    .ok()
                    .or_else(|| kept.cloned()),
                None => kept.cloned(),
            };
            let Some(pack) = pack else { continue };
            match packs.iter().find(|other| other.name() == pack.name()) {
                None => packs.push(pack),
                Some(other) => {
                    let first = other.origin().path().map(Path::to_owned).unwrap_or_default();
                    refused.push(LibraryError::SameName { name: pack.name().to_owned(), first, second: path });
                }
            }
        }
        Self::complete(packs, generic, shared)
    }

    /// The generic pack: one of the directory, else the built-in one.
    fn generic_of(&self, texts: &[(PathBuf, Option<String>)]) -> Option<Pack> {
        let of_directory = texts.iter().rev().find_map(|(path, text)| {
            let parsed = text.as_ref().map(|text| Pack::parse(PackOrigin::File(path.clone()), text, &[]));
            let pack = match parsed {
                Some(Ok(pack)) => Some(pack),
                // Its examples may need the shared patterns; then it is not the generic one, which has none behind it.
                Some(Err(_)) | None => self.of_file(path).cloned(),
            };
            pack.filter(|pack| pack.name() == GENERIC)
        });
        of_directory.or_else(|| Pack::parse(PackOrigin::BuiltIn, GENERIC_TEXT, &[]).ok())
    }

    /// Puts the built-in packs behind those of the directory, and the generic one last.
    fn complete(mut packs: Vec<Pack>, generic: Pack, shared: Arc<[Pattern]>) -> Self {
        for text in BUILT_IN {
            // The built-in packs are valid: a test reads each of them.
            let Ok(pack) = Pack::parse(PackOrigin::BuiltIn, text, &shared) else { continue };
            if packs.iter().all(|other| other.name() != pack.name()) {
                packs.push(pack);
            }
        }
        packs.retain(|pack| pack.name() != GENERIC);
        packs.push(generic);
        Self { packs: packs.into(), shared }
    }

    /// Reads a pack that is no part of the library, as if it were.
    ///
    /// # Errors
    /// Where the file cannot be read, or holds no valid pack.
    pub fn read(&self, path: &Path) -> Result<Pack, LibraryError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| LibraryError::File { path: path.to_owned(), source })?;
        Ok(self.parse(path, &text)?)
    }

    /// The same from a text that would be the file `path`.
    ///
    /// # Errors
    /// Where it is no valid pack.
    pub fn parse(&self, path: &Path, text: &str) -> Result<Pack, PackError> {
        Pack::parse(PackOrigin::File(path.to_owned()), text, &self.shared)
    }

    /// Every pack, in order of precedence.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Pack> {
        self.packs.iter()
    }

    /// The pack of that name.
    pub fn get(&self, name: &str) -> Option<&Pack> {
        self.iter().find(|pack| pack.name() == name)
    }

    /// The pack for a build: the one that is named, else the most specific one that fits. `None` only for an empty
    /// library.
    pub fn choose(&self, build: Option<u64>, options: &[String], forced: Option<&str>) -> Option<Choice> {
        choose(&self.packs, build, options, forced)
    }

    fn of_file(&self, path: &Path) -> Option<&Pack> {
        self.iter().find(|pack| pack.origin().path() == Some(path))
    }
}

impl Default for PackLibrary {
    fn default() -> Self {
        Self::built_in()
    }
}

/// Every pack knows what failures, echoes and percentages look like; only hints are the generic pack's own.
fn shared_patterns(generic: &Pack) -> Arc<[Pattern]> {
    let shared = |pattern: &&Pattern| !matches!(pattern.verdict, PatternVerdict::NearlyReady | PatternVerdict::Ready);
    generic.patterns().iter().filter(shared).cloned().collect()
}

fn pack_files(directory: &Path) -> Result<Vec<PathBuf>, LibraryError> {
    let failed = |source| LibraryError::Directory { path: directory.to_owned(), source };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        // Only regular files: a FIFO of that name would block the daemon.
        if !hidden && path.extension().is_some_and(|extension| extension == "toml") && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
