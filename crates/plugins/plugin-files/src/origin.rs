//! The origin of a plug-in file: the program itself, or a file.

use std::path::{Path, PathBuf};

/// Where a plug-in file comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The text is part of llama-warden.
    BuiltIn,
    /// The text was read from this file.
    File(PathBuf),
}

impl Origin {
    /// The file's path; `None` for a built-in one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::BuiltIn => None,
            Self::File(path) => Some(path),
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built in"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
