//! Replaces a file in one step.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use crate::fail_point::fail_point_of;

/// The event that a replaced file survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of this process. A power cut may leave an empty file. Never waits for the disk.
    Process,
    /// A power cut, too. Waits for the disk twice, so it belongs on the blocking pool.
    PowerCut,
}

/// Writes `bytes` to a file beside `path`, then renames it to `path`: a reader of `path` gets the old content or the new
/// one, never a part, whenever this process ends.
///
/// The file beside it is `path` with the extension `new`. Two calls for the same path must not run at once.
///
/// # Errors
/// If the folder cannot be written; the old content then stays.
pub fn replace_file(path: &Path, bytes: &[u8], durability: Durability) -> io::Result<()> {
    fail_point_of("file-before", path);
    let new = path.with_extension("new");
    // What a crash left there, or a FIFO or a link that somebody put there, is neither opened nor followed.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(&new)?;
    fail_point_of("file-created", path);
    file.write_all(bytes)?;
    if durability == Durability::PowerCut {
        // The content must be on disk before the name points to it, and the name is on disk only after a sync of its folder.
        file.sync_all()?;
    }
    fail_point_of("file-written", path);
    fs::rename(&new, path)?;
    fail_point_of("file-renamed", path);
    if durability == Durability::Process {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match File::open(folder)?.sync_all() {
        // Some file systems cannot sync a folder. They order the rename themselves, or nothing can.
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

/// Whether a disk or a quota is full, which is no reason not to run servers.
pub fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_replaced_and_leaves_nothing_beside_it() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("state.json");
        for (bytes, durability) in
            [(&b"one"[..], Durability::PowerCut), (b"two", Durability::Process), (b"", Durability::PowerCut)]
        {
            replace_file(&path, bytes, durability).expect("writable");
            assert_eq!(fs::read(&path).expect("there"), bytes);
        }
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 1);
    }

    #[test]
    fn what_cannot_be_written_leaves_the_old_content() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let path = folder.path().join("state");
        fs::write(&path, "old").expect("writable");
        // A folder of that name: the file beside it cannot be made, whoever runs this test.
        fs::create_dir(path.with_extension("new")).expect("writable");
        assert!(replace_file(&path, b"new", Durability::Process).is_err());
        assert_eq!(fs::read(&path).expect("there"), b"old");
        assert!(replace_file(&folder.path().join("no/such/folder"), b"", Durability::Process).is_err());
    }

    #[test]
    fn what_lies_beside_it_is_neither_opened_nor_followed() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let (path, precious) = (folder.path().join("state"), folder.path().join("precious"));
        fs::write(&precious, "precious").expect("writable");
        std::os::unix::fs::symlink(&precious, path.with_extension("new")).expect("writable");
        replace_file(&path, b"new", Durability::Process).expect("writable");
        assert_eq!(
            (fs::read(&path).expect("there"), fs::read(&precious).expect("there")),
            (b"new".to_vec(), b"precious".to_vec())
        );
        assert!(fs::symlink_metadata(&path).expect("there").is_file());
    }
}
