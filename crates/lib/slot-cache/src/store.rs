//! The files of every server, and the launches for which nothing is tried.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use llama_warden_events::ServerId;

use crate::fingerprint::LaunchFingerprint;
use crate::saved::SavedLaunch;

/// Launches whose reasons are remembered. One that is forgotten for another is tried once more.
const REMEMBERED: usize = 256;

/// What is kept of all servers.
#[derive(Debug)]
pub struct SlotStore {
    /// Bytes of all files together.
    limit: u64,
    /// Oldest first.
    saved: VecDeque<(ServerId, SavedLaunch)>,
    off: BTreeMap<LaunchFingerprint, String>,
    files: u64,
}

/// What became of a launch that was handed over.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    /// Whether it is kept.
    pub is_kept: bool,
    /// The files that are of no use any more: those of earlier launches, or its own.
    pub dropped: Vec<PathBuf>,
}

impl SlotStore {
    /// A store of files of this many bytes at most.
    pub const fn new(limit: u64) -> Self {
        Self { limit, saved: VecDeque::new(), off: BTreeMap::new(), files: 0 }
    }

    /// A name that no file has had: one whose save timed out may still be written.
    pub fn next_name(&mut self, slot: u32) -> String {
        self.files += 1;
        format!("{}-{slot}.bin", self.files)
    }

    /// The bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.saved.iter().map(|(_, saved)| saved.bytes()).sum()
    }

    /// Bytes of all files together.
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// Keeps the files of a launch, in place of earlier ones of its server, and of the oldest ones where there is no room.
    pub fn keep(&mut self, server: ServerId, saved: SavedLaunch) -> Stored {
        let mut dropped = self.forget(&server);
        if saved.bytes() > self.limit || saved.slots.is_empty() {
            dropped.extend(saved.paths());
            return Stored { is_kept: false, dropped };
        }
        while self.bytes() + saved.bytes() > self.limit
            && let Some((_, oldest)) = self.saved.pop_front()
        {
            dropped.extend(oldest.paths());
        }
        self.saved.push_back((server, saved));
        Stored { is_kept: true, dropped }
    }

    /// Hands out what is kept of a server. It is not kept any more: a file is used once.
    pub fn take(&mut self, server: &ServerId) -> Option<SavedLaunch> {
        let at = self.saved.iter().position(|(known, _)| known == server)?;
        self.saved.remove(at).map(|(_, saved)| saved)
    }

    /// Forgets what is kept of a server, and gives the files to delete.
    pub fn forget(&mut self, server: &ServerId) -> Vec<PathBuf> {
        self.take(server).map(|saved| saved.paths()).unwrap_or_default()
    }

    /// The files of a server that are kept.
    pub fn kept(&self, server: &ServerId) -> Vec<PathBuf> {
        self.saved.iter().filter(|(known, _)| known == server).flat_map(|(_, saved)| saved.paths()).collect()
    }

    /// Nothing is tried for such a launch any more.
    pub fn switch_off(&mut self, fingerprint: LaunchFingerprint, because: &str) {
        if self.off.len() >= REMEMBERED {
            self.off.pop_first();
        }
        self.off.insert(fingerprint, because.to_owned());
    }

    /// Why nothing is tried for such a launch.
    pub fn why_off(&self, fingerprint: &LaunchFingerprint) -> Option<&str> {
        self.off.get(fingerprint).map(String::as_str)
    }
}

/// Deletes files that are of no use any more. What cannot be deleted is deleted at the next start.
pub fn remove(files: &[PathBuf]) {
    files.iter().for_each(|file| drop(fs::remove_file(file)));
}

/// Deletes the files below a folder of folders, except these: leftovers of earlier runs, and of saves that were given up.
pub fn clear(folders: &Path, except: &[PathBuf]) {
    for folder in fs::read_dir(folders).into_iter().flatten().flatten() {
        clear_folder(&folder.path(), except);
    }
}

fn clear_folder(folder: &Path, except: &[PathBuf]) {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    files.filter(|file| !except.contains(file)).for_each(|file| drop(fs::remove_file(file)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LaunchIdentity, SaveAnswer, WrittenSlot};

    fn fingerprint(argument: &str) -> LaunchFingerprint {
        LaunchFingerprint::read(&LaunchIdentity {
            pid: std::process::id(),
            started: std::time::SystemTime::now() + std::time::Duration::from_secs(3600),
            argv: vec!["/proc/self/exe".to_owned(), argument.to_owned()],
            version: None,
            environment: BTreeMap::new(),
            directory: "/".into(),
        })
        .expect("readable")
    }

    fn saved(folder: &Path, name: &str, bytes: u64) -> SavedLaunch {
        let path = folder.join(name);
        fs::write(&path, vec![0; usize::try_from(bytes).expect("small")]).expect("writable");
        let written = WrittenSlot { slot: 0, path, answer: SaveAnswer { tokens: 300, bytes } };
        SavedLaunch { fingerprint: fingerprint("x"), slots: vec![written.seal().expect("whole")], turn: None }
    }

    fn id(text: &str) -> ServerId {
        ServerId::new(text).expect("valid")
    }

    #[test]
    fn what_is_taken_is_kept_no_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = SlotStore::new(1000);
        assert!(store.keep(id("a"), saved(folder.path(), "a", 10)).is_kept);
        assert_eq!(store.take(&id("a")).map(|saved| saved.tokens()), Some(300));
        assert!(store.take(&id("a")).is_none());
    }

    #[test]
    fn the_oldest_files_make_room_and_what_is_larger_than_all_is_not_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = SlotStore::new(1000);
        for name in ["a", "b"] {
            store.keep(id(name), saved(folder.path(), name, 400));
        }
        let stored = store.keep(id("c"), saved(folder.path(), "c", 400));
        assert_eq!(stored, Stored { is_kept: true, dropped: vec![folder.path().join("a")] });
        let stored = store.keep(id("b"), saved(folder.path(), "b2", 300));
        assert_eq!(stored, Stored { is_kept: true, dropped: vec![folder.path().join("b")] });
        assert_eq!(store.bytes(), 700);
        let stored = store.keep(id("d"), saved(folder.path(), "d", 1001));
        assert_eq!(stored, Stored { is_kept: false, dropped: vec![folder.path().join("d")] });
        assert_eq!(store.bytes(), 700);
    }

    #[test]
    fn a_launch_that_failed_once_is_off_and_others_are_not() {
        let mut store = SlotStore::new(1000);
        store.switch_off(fingerprint("x"), "it hung");
        assert_eq!(store.why_off(&fingerprint("x")), Some("it hung"));
        assert_eq!(store.why_off(&fingerprint("y")), None);
    }

    #[test]
    fn a_name_is_never_given_twice() {
        let mut store = SlotStore::new(0);
        assert_ne!(store.next_name(0), store.next_name(0));
    }

    #[test]
    fn leftovers_are_deleted_and_folders_stay() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = root.path().join("a");
        fs::create_dir(&folder).expect("makable");
        for name in ["left", "kept"] {
            fs::write(folder.join(name), b"x").expect("writable");
        }
        clear(root.path(), &[folder.join("kept")]);
        assert_eq!((folder.join("left").exists(), folder.join("kept").exists()), (false, true));
        clear(&root.path().join("none"), &[]);
    }
}
