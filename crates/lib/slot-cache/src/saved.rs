//! The files of one launch, with what each must be when it is read.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::answers::SaveAnswer;
use crate::fingerprint::LaunchFingerprint;
use crate::judge::AnsweredTurn;

/// A file that a server says it has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenSlot {
    /// The number of the slot.
    pub slot: u32,
    /// The file.
    pub path: PathBuf,
    /// What the server says.
    pub answer: SaveAnswer,
}

/// A file whose content is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSlot {
    /// The number of the slot.
    pub slot: u32,
    /// The file.
    pub path: PathBuf,
    /// The tokens in it.
    pub tokens: u64,
    /// Its length.
    pub bytes: u64,
    checksum: u32,
}

/// What was saved of one launch.
#[derive(Debug, Clone)]
pub struct SavedLaunch {
    /// The launch.
    pub fingerprint: LaunchFingerprint,
    /// Its slots.
    pub slots: Vec<SavedSlot>,
    /// Its last request, where one of the slots holds it.
    pub turn: Option<AnsweredTurn>,
}

/// A file is not what it was when it was saved.
#[derive(Debug)]
pub enum FileFault {
    /// It cannot be read.
    Unreadable(io::Error),
    /// It has another length.
    Length {
        /// As it is.
        found: u64,
        /// As it was.
        expected: u64,
    },
    /// It has another content.
    Content,
}

impl std::fmt::Display for FileFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable(error) => write!(f, "the file cannot be read: {error}"),
            Self::Length { found, expected } => write!(f, "the file has {found} bytes of {expected}"),
            Self::Content => f.write_str("the content of the file has changed"),
        }
    }
}

impl WrittenSlot {
    /// Whether the file is as long as the server says. Cheap: it is asked while the stop waits.
    ///
    /// # Errors
    /// It is missing, or has another length.
    pub fn check_length(&self) -> Result<(), FileFault> {
        let found = self.path.symlink_metadata().map_err(FileFault::Unreadable)?;
        expect_length(if found.is_file() { found.len() } else { 0 }, self.answer.bytes)
    }

    /// Reads the file, and remembers what it contains.
    ///
    /// # Errors
    /// As [`Self::check_length`].
    pub fn seal(self) -> Result<SavedSlot, FileFault> {
        let Self { slot, path, answer: SaveAnswer { tokens, bytes } } = self;
        let (length, checksum) = checksum(&path).map_err(FileFault::Unreadable)?;
        expect_length(length, bytes)?;
        Ok(SavedSlot { slot, path, tokens, bytes, checksum })
    }
}

impl SavedSlot {
    /// Whether the file is what was saved: one that was cut ends a server that reads it.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self) -> Result<(), FileFault> {
        let (length, checksum) = checksum(&self.path).map_err(FileFault::Unreadable)?;
        expect_length(length, self.bytes)?;
        if checksum == self.checksum { Ok(()) } else { Err(FileFault::Content) }
    }

    /// The name of the file in its folder, as it is sent to the server.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }
}

impl SavedLaunch {
    /// The bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.slots.iter().map(|slot| slot.bytes).sum()
    }

    /// The tokens of its slots.
    pub fn tokens(&self) -> u64 {
        self.slots.iter().map(|slot| slot.tokens).sum()
    }

    /// Its files.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.slots.iter().map(|slot| slot.path.clone()).collect()
    }
}

fn expect_length(found: u64, expected: u64) -> Result<(), FileFault> {
    if found == expected { Ok(()) } else { Err(FileFault::Length { found, expected }) }
}

fn checksum(path: &Path) -> io::Result<(u64, u32)> {
    let mut file = File::open(path)?;
    let (mut hasher, mut length) = (crc32fast::Hasher::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok((length, hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
        length += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn written(folder: &Path, content: &[u8]) -> WrittenSlot {
        let path = folder.join("1-0.bin");
        fs::write(&path, content).expect("writable");
        WrittenSlot { slot: 0, path, answer: SaveAnswer { tokens: 300, bytes: 1000 } }
    }

    #[test]
    fn a_file_is_used_only_as_it_was_saved() {
        let folder = tempfile::tempdir().expect("a folder");
        let content: Vec<u8> = (0..1000_u32).map(|number| number as u8).collect();
        let saved = written(folder.path(), &content).seal().expect("whole");
        saved.check().expect("as it was");
        for other in [&content[..500], &content[..999], &[&content[..], b"x"].concat(), b""] {
            fs::write(&saved.path, other).expect("writable");
            assert!(matches!(saved.check(), Err(FileFault::Length { .. })), "{} bytes", other.len());
        }
        let mut flipped = content.clone();
        flipped[700] ^= 1;
        fs::write(&saved.path, &flipped).expect("writable");
        assert!(matches!(saved.check(), Err(FileFault::Content)));
        fs::remove_file(&saved.path).expect("is there");
        assert!(matches!(saved.check(), Err(FileFault::Unreadable(_))));
    }

    #[test]
    fn a_file_that_is_shorter_than_the_server_says_is_no_save() {
        let folder = tempfile::tempdir().expect("a folder");
        let short = written(folder.path(), &[0; 999]);
        assert!(short.check_length().is_err());
        assert!(short.seal().is_err());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/etc/hostname", &link).expect("makable");
        let linked = WrittenSlot { path: link, ..written(folder.path(), &[0; 1000]) };
        assert!(linked.check_length().is_err(), "a link is no file of the server");
    }
}
