//! Tells of the files that the next daemon will take for empty.

use std::io;
use std::path::{Path, PathBuf};

use crate::{DownServers, FailureCounts, KeptFile, KeptState, PortFile, TotalsByServer};

/// A file whose content does not count.
#[derive(Debug)]
pub struct UnreadableFile {
    /// Its path.
    pub path: PathBuf,
    /// Why it cannot be read, or what in it is invalid.
    pub error: io::Error,
}

/// The files of a state directory that are there and cannot be read. May block.
pub fn unreadable(state_dir: &Path) -> Vec<UnreadableFile> {
    fn look<T: KeptState>(state_dir: &Path) -> Option<UnreadableFile> {
        let file = KeptFile::<T>::new(state_dir);
        file.try_load().err().map(|error| UnreadableFile { path: file.path().to_owned(), error })
    }
    let ports = PortFile::new(state_dir);
    let ports = ports.try_read().err().map(|error| UnreadableFile { path: ports.path().to_owned(), error });
    let others = [look::<DownServers>, look::<FailureCounts>, look::<TotalsByServer>].map(|look| look(state_dir));
    ports.into_iter().chain(others.into_iter().flatten()).collect()
}
