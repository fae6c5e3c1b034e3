//! The file of the state directory that names the runs of the daemon whose processes may still exist.
//!
//! Its first line says in which directory it was written. In a copy of a state directory it still says so: the runs that it names there
//! belong to the original, whose daemon may be alive.

use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use llama_warden_support::read_regular;

/// The name of the file in the state directory.
const FILE: &str = "boots";

/// Longest file in bytes: room for the ids of many thousand runs that left processes behind.
const MAX_BYTES: u64 = 1 << 20;

/// Begins the line that names the directory. Versions that do not know it ignore it, as they do all that is not an id.
const PLACE: &str = "in ";

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunsFile {
    /// The ids of the runs.
    pub runs: Vec<String>,
    /// The directory in which they ran; `None` where an older version wrote the file.
    pub place: Option<DirectoryIdentity>,
}

/// A directory, wherever it is moved to on its file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryIdentity {
    /// Device, inode, and time of creation, since an inode is used again.
    id: String,
    /// Where it was.
    pub(crate) path: PathBuf,
}

impl RunsFile {
    /// The path of the file in a state directory.
    pub(crate) fn path(state_dir: &Path) -> PathBuf {
        state_dir.join(FILE)
    }

    /// Reads the file of a state directory. One that cannot be read is told of, and names no run.
    pub(crate) fn read(state_dir: &Path) -> Self {
        let path = Self::path(state_dir);
        let text = read_regular(&path, MAX_BYTES).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                let path = path.display();
                tracing::warn!(%path, %error, "earlier runs are not known; what they left behind may not be found");
            }
            Vec::new()
        });
        Self::parse(&text)
    }

    /// Reads what a file contains. Lines that nobody wrote so are ignored, such as those of a file that was cut off.
    pub fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let is_id = |line: &&str| line.len() == 16 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        // Not `lines`, which takes a carriage return at the end of a path for a part of the line's end.
        let place = text.split('\n').find_map(|line| line.strip_prefix(PLACE)?.split_once(' '));
        Self {
            runs: text.lines().filter(is_id).map(str::to_owned).collect(),
            place: place.map(|(id, path)| DirectoryIdentity { id: id.to_owned(), path: path.into() }),
        }
    }

    /// What the file is to contain.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Some(DirectoryIdentity { id, path }) = &self.place {
            // A path of two lines is shown, and found by nobody.
            let path = path.to_string_lossy().replace('\n', " ");
            // Writing into a text cannot fail.
            let _ = writeln!(text, "{PLACE}{id} {path}");
        }
        text.extend(self.runs.iter().flat_map(|run| [run, "\n"]));
        text
    }

    /// The directory whose runs these are, if that is another one than `state_dir`.
    pub(crate) fn original(&self, state_dir: &Path) -> Option<&DirectoryIdentity> {
        let here = DirectoryIdentity::of(state_dir)?;
        self.place.as_ref().filter(|place| place.id != here.id)
    }
}

impl DirectoryIdentity {
    /// The directory at a path; `None` if it cannot be seen.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        // Some file systems do not know it.
        let created = found.created().ok().and_then(|created| created.duration_since(UNIX_EPOCH).ok());
        let created = created.unwrap_or_default().as_nanos();
        Some(Self { id: format!("{}:{}:{created}", found.dev(), found.ino()), path: path.to_owned() })
    }

    /// Whether it is where it was.
    pub(crate) fn is_there(&self) -> bool {
        Self::of(&self.path).is_some_and(|found| found.id == self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_names_its_original_and_a_moved_directory_is_the_same() {
        let parent = tempfile::tempdir().expect("tempdir");
        let [original, moved, copy] = ["original", "moved", "copy"].map(|name| parent.path().join(name));
        fs::create_dir(&original).expect("ours");
        fs::create_dir(&copy).expect("ours");
        let written = RunsFile { runs: vec!["0123456789abcdef".to_owned()], place: DirectoryIdentity::of(&original) };
        let read = RunsFile::parse(written.text().as_bytes());
        assert_eq!(read, written);
        assert_eq!((read.original(&original), read.original(&copy)), (None, read.place.as_ref()));
        assert!(read.place.as_ref().is_some_and(DirectoryIdentity::is_there));
        fs::rename(&original, &moved).expect("ours");
        assert_eq!(read.original(&moved), None);
        assert!(!read.place.as_ref().is_some_and(DirectoryIdentity::is_there));
        // A file of an older version is taken for one of its directory.
        assert_eq!(RunsFile::parse(b"0123456789abcdef\n").original(&copy), None);
        assert_eq!(RunsFile::parse(b"in 7\nin \n0123\n"), RunsFile::default());
        let odd = RunsFile::parse(b"in 1:2:3 /a path\r\n");
        assert_eq!(RunsFile::parse(odd.text().as_bytes()), odd);
        assert_eq!(odd.place.map(|place| place.path), Some("/a path\r".into()));
    }
}
