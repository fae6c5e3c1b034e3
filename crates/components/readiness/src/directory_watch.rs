//! Notices changes in a directory that may not exist yet, or that is replaced as a whole.
//!
//! It watches the directory, not the files: editors and Kubernetes replace files by renames and symbolic links, and an inotify
//! watch follows the old inode. It also watches the nearest ancestor that exists, to see the directory appear, disappear, or
//! be swapped.

use std::io;
use std::path::{Path, PathBuf};

use llama_warden_support::{KernelNotices, WantedChanges, next_notice};

/// A watch on one directory.
#[derive(Debug)]
pub(crate) struct DirectoryWatch {
    directory: PathBuf,
    notices: KernelNotices,
}

impl DirectoryWatch {
    /// Watches `directory` (absolute), within a tokio runtime.
    ///
    /// # Errors
    /// If the kernel grants no more watches.
    pub(crate) fn new(directory: &Path) -> io::Result<Self> {
        let watch = Self { directory: directory.to_owned(), notices: KernelNotices::new()? };
        watch.arm()?;
        Ok(watch)
    }

    /// Waits for the next change. Reading, which we do ourselves, is none.
    pub(crate) async fn changed(&self) {
        next_notice(Some(&self.notices)).await;
    }

    /// Watches the directory that is at the path now, which may be another one than before.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn arm(&self) -> io::Result<()> {
        loop {
            let places = self.places();
            let armed = self.notices.watch_only(places.iter().map(|(place, wanted)| (*place, wanted.clone())));
            // What came or went before its place was watched has no notice.
            if self.places() == places {
                return armed;
            }
        }
    }

    /// The nearest ancestor, which may be busy, so that only the path to the directory counts there, and the directory itself.
    fn places(&self) -> Vec<(&Path, WantedChanges)> {
        let mut levels = self.directory.ancestors().zip(self.directory.ancestors().skip(1));
        let nearest = levels.find(|(_, ancestor)| ancestor.is_dir()).and_then(|(level, ancestor)| {
            let name = level.file_name()?.to_owned();
            Some((ancestor, WantedChanges::OfEntries([name].into())))
        });
        let directory = self.directory.is_dir().then_some((self.directory.as_path(), WantedChanges::OfContent));
        nearest.into_iter().chain(directory).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;

    async fn expect_change(watch: &DirectoryWatch, what: &str) {
        let changed = tokio::time::timeout(Duration::from_secs(20), watch.changed()).await;
        assert!(changed.is_ok(), "{what} was not noticed");
        watch.arm().expect("arms");
    }

    /// Consumes the notifications of what was done so far, which come from the kernel within a moment.
    async fn drain(watch: &DirectoryWatch) {
        while tokio::time::timeout(Duration::from_millis(100), watch.changed()).await.is_ok() {}
    }

    #[tokio::test]
    async fn a_directory_is_seen_to_come_change_and_be_replaced() {
        let root = tempfile::tempdir().expect("makes a directory");
        let directory = root.path().join("not/yet/there");
        let watch = DirectoryWatch::new(&directory).expect("watches");
        for level in ["not", "not/yet", "not/yet/there"] {
            fs::create_dir(root.path().join(level)).expect("creates");
            expect_change(&watch, "a new directory").await;
        }
        drain(&watch).await;
        fs::write(directory.join("a.toml"), "").expect("writes");
        expect_change(&watch, "a new file").await;
        drain(&watch).await;
        fs::rename(&directory, root.path().join("old")).expect("renames");
        fs::create_dir(&directory).expect("creates");
        expect_change(&watch, "another directory in its place").await;
        drain(&watch).await;
        fs::write(directory.join("b.toml"), "").expect("writes");
        expect_change(&watch, "a file in the new directory").await;
    }

    #[tokio::test]
    async fn a_swap_of_links_as_kubernetes_does_it_is_seen() {
        let root = tempfile::tempdir().expect("makes a directory");
        let directory = root.path().join("packs");
        for version in ["..1", "..2"] {
            fs::create_dir_all(directory.join(version)).expect("creates");
            fs::write(directory.join(version).join("a.toml"), version).expect("writes");
        }
        symlink("..1", directory.join("..data")).expect("links");
        symlink("..data/a.toml", directory.join("a.toml")).expect("links");
        let watch = DirectoryWatch::new(&directory).expect("watches");
        symlink("..2", directory.join("..data_tmp")).expect("links");
        fs::rename(directory.join("..data_tmp"), directory.join("..data")).expect("renames");
        expect_change(&watch, "the swap").await;
        assert_eq!(fs::read_to_string(directory.join("a.toml")).expect("reads"), "..2");
    }

    #[tokio::test]
    async fn reading_and_what_happens_beside_the_directory_is_no_change() {
        let root = tempfile::tempdir().expect("makes a directory");
        let directory = root.path().join("packs");
        fs::create_dir(&directory).expect("creates");
        fs::write(directory.join("a.toml"), "").expect("writes");
        let watch = DirectoryWatch::new(&directory).expect("watches");
        drain(&watch).await;
        fs::read(directory.join("a.toml")).expect("reads");
        fs::read_dir(&directory).expect("lists").for_each(drop);
        fs::write(root.path().join("beside"), "").expect("writes");
        let noticed = tokio::time::timeout(Duration::from_millis(300), watch.changed()).await;
        assert!(noticed.is_err(), "a change was noticed");
    }
}
