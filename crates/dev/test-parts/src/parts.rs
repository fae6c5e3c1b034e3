//! The cache of parts: folder trees that are downloaded or built once, each with the checksums of all its files.
//!
//! A tree gets its final name by a rename, so a part is either whole or absent. A tree whose files no longer match their
//! checksums counts as absent.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, OnPath};
use crate::{paths, shell};

/// The list of checksums at the root of each tree, in the format of `sha256sum`.
const CHECKSUMS: &str = "SHA256SUMS";

/// A part of the cache, locked against other chores until it is dropped.
#[derive(Debug)]
pub struct CachedPart {
    place: PathBuf,
    scratch: PathBuf,
    _lock: File,
}

/// A tree under construction. Dropping it removes what was built so far.
#[derive(Debug)]
pub struct PartDraft<'part> {
    part: &'part CachedPart,
}

impl CachedPart {
    /// Opens the part called `name`, waiting for any other chore that holds it.
    ///
    /// # Errors
    /// When the cache folder cannot be written.
    pub fn open(name: &str) -> Result<Self, Error> {
        Self::open_in(&paths::cache(), name)
    }

    fn open_in(cache: &Path, name: &str) -> Result<Self, Error> {
        fs::create_dir_all(cache).on("create", cache)?;
        let lock = lock(&cache.join(format!("{name}.lock")))?;
        Ok(Self { place: cache.join(name), scratch: cache.join(format!(".draft-{name}")), _lock: lock })
    }

    /// The folder of the part, if it exists and every file in it has its checksum.
    pub fn intact(&self) -> Option<&Path> {
        let check = ["--check", "--quiet", "--strict", CHECKSUMS];
        let whole = self.place.join(CHECKSUMS).is_file()
            && shell::read(Command::new("sha256sum").args(check).current_dir(&self.place)).is_ok();
        whole.then_some(&self.place)
    }

    /// Starts to build the part anew.
    ///
    /// # Errors
    /// When the folder cannot be created.
    pub fn draft(&self) -> Result<PartDraft<'_>, Error> {
        paths::remove(&self.scratch)?;
        fs::create_dir_all(&self.scratch).on("create", &self.scratch)?;
        Ok(PartDraft { part: self })
    }
}

impl PartDraft<'_> {
    /// The folder to build in. `tree/` below it becomes the part; everything else is removed.
    pub fn folder(&self) -> &Path {
        &self.part.scratch
    }

    /// The folder that becomes the part.
    pub fn tree(&self) -> PathBuf {
        self.folder().join("tree")
    }

    /// The folder of the part once it is published.
    pub fn place(&self) -> &Path {
        &self.part.place
    }

    /// Writes the checksums and moves the tree to its place, replacing an older part.
    ///
    /// # Errors
    /// When a file cannot be read, written or moved.
    pub fn publish(self) -> Result<PathBuf, Error> {
        let (tree, place) = (self.tree(), self.place());
        let sums =
            shell::read(Command::new("sh").args(["-c", "find . -type f -exec sha256sum {} +"]).current_dir(&tree))?;
        fs::write(tree.join(CHECKSUMS), sums).on("write the checksums of", &tree)?;
        if place.exists() {
            fs::rename(place, self.folder().join("replaced")).on("replace", place)?;
        }
        fs::rename(&tree, place).on("move the new part to", place)?;
        Ok(place.to_owned())
    }
}

impl Drop for PartDraft<'_> {
    fn drop(&mut self) {
        if let Err(error) = paths::remove(self.folder()) {
            eprintln!("warning: {error}: the folder may be removed by hand");
        }
    }
}

/// Locks the file at `path` until the value is dropped, waiting for any other chore that holds it.
///
/// # Errors
/// When the file cannot be created or locked.
pub fn lock(path: &Path) -> Result<File, Error> {
    let lock = File::create(path).on("open", path)?;
    lock.lock().on("lock", path)?;
    Ok(lock)
}

/// Makes `link` a symbolic link to `to`, in one step: a reader sees the old link or the new one.
///
/// # Errors
/// When the link cannot be made.
pub fn link(to: &Path, link: &Path) -> Result<(), Error> {
    if let Some(folder) = link.parent() {
        fs::create_dir_all(folder).on("create", folder)?;
    }
    let fresh = link.with_file_name(format!(".link-{}", std::process::id()));
    std::os::unix::fs::symlink(to, &fresh).on("link", &fresh)?;
    fs::rename(&fresh, link).on("link", link)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(part: &CachedPart, content: &str) -> PathBuf {
        let draft = part.draft().unwrap();
        fs::create_dir(draft.tree()).unwrap();
        fs::write(draft.tree().join("program"), content).unwrap();
        draft.publish().unwrap()
    }

    fn entries(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_part_is_intact_until_one_of_its_files_changes() {
        let cache = tempfile::tempdir().unwrap();
        let part = CachedPart::open_in(cache.path(), "tool").unwrap();
        assert_eq!(part.intact(), None);
        let tree = publish(&part, "one");
        assert_eq!(part.intact(), Some(tree.as_path()));
        fs::write(tree.join("program"), "other").unwrap();
        assert_eq!(part.intact(), None);
    }

    #[test]
    fn a_new_part_replaces_the_old_one_and_leaves_no_scratch() {
        let cache = tempfile::tempdir().unwrap();
        let part = CachedPart::open_in(cache.path(), "tool").unwrap();
        publish(&part, "one");
        let tree = publish(&part, "two");
        assert_eq!(fs::read_to_string(tree.join("program")).unwrap(), "two");
        assert_eq!(entries(cache.path()), ["tool", "tool.lock"]);
    }

    #[test]
    fn a_draft_that_fails_leaves_the_old_part_alone() {
        let cache = tempfile::tempdir().unwrap();
        let part = CachedPart::open_in(cache.path(), "tool").unwrap();
        let tree = publish(&part, "one");
        drop(part.draft().unwrap());
        assert_eq!(part.intact(), Some(tree.as_path()));
    }

    #[test]
    fn a_link_moves_from_one_part_to_another() {
        let folder = tempfile::tempdir().unwrap();
        let current = folder.path().join("below/current");
        for to in ["/one", "/two"] {
            link(Path::new(to), &current).unwrap();
            assert_eq!(fs::read_link(&current).unwrap(), Path::new(to));
        }
    }
}
