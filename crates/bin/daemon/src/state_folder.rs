//! What there is at the place of a state directory, and whether it may be one.

use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use llama_warden_exit::CommandFailure;

/// The file that is locked. A folder that has it is a state directory, whatever else components keep there.
pub const LOCK: &str = "daemon.lock";

/// The log of a daemon in the background, which whoever starts it opens before the directory is locked.
pub const BACKGROUND_LOG: &str = "daemon.log";

/// An entry of every new ext4 file system, such as a volume that was made for the state directory.
const LOST_AND_FOUND: &str = "lost+found";

/// The first part of a path that is no folder, and what it is.
pub(crate) fn in_the_way(path: &Path) -> Option<(&Path, String)> {
    let parts: Vec<&Path> = path.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
    parts.into_iter().rev().find_map(|part| {
        let found = part.symlink_metadata().ok()?;
        let shown = part.display();
        match (found.is_symlink(), part.metadata()) {
            (_, Ok(target)) if target.is_dir() => None,
            (true, Err(_)) => Some((part, format!("{shown} is a link that leads to no folder"))),
            _ => Some((part, format!("{shown} is not a folder"))),
        }
    })
}

/// What there is at the place of a state directory.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) id: (u64, u64),
    pub(crate) owner: u32,
    /// The owner of the link that the configuration names, or the folder's own.
    pub(crate) owner_of_link: u32,
    pub(crate) mode: u32,
    /// Names and owners of its entries, sorted.
    pub(crate) entries: Vec<(String, u32)>,
}

impl Folder {
    pub(crate) fn inspect(path: PathBuf, owner_of_link: u32) -> io::Result<Self> {
        let found = fs::metadata(&path)?;
        let mut entries = Vec::new();
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            // One that has just been removed is no entry.
            if let (Ok(found), name) = (entry.metadata(), entry.file_name())
                && name != LOST_AND_FOUND
            {
                entries.push((name.to_string_lossy().into_owned(), found.uid()));
            }
        }
        entries.sort_unstable();
        Ok(Self { path, id: id(&found), owner: found.uid(), owner_of_link, mode: found.mode() & 0o7777, entries })
    }

    /// Refuses a folder of another user, one that others can write or have written, and one that has been in use for something
    /// else. `former` is one that this daemon held.
    pub(crate) fn check(&self, user: u32, former: Option<(u64, u64)>) -> Result<(), CommandFailure> {
        let has_lock = former == Some(self.id) || self.entries.iter().any(|(name, _)| name == LOCK);
        let in_use = self.entries.iter().find(|(name, _)| name != BACKGROUND_LOG).filter(|_| !has_lock);
        let own_folder = format!("daemon.state-dir = \"{}\"", self.path.join("llama-warden").display());
        // systemd's `DynamicUser` makes the path a link of root's.
        let owner_of_link = Some(self.owner_of_link).filter(|owner| *owner != 0);
        if let Some(stranger) = [Some(self.owner), owner_of_link].into_iter().flatten().find(|owner| *owner != user) {
            let why = format!("it belongs to user {stranger}, and user {user} runs llama-warden");
            return Err(self.refused(&why, "set daemon.state-dir to a folder of that user's own"));
        }
        if self.mode & 0o022 != 0 {
            let why = format!("other users can write it (mode {:04o})", self.mode);
            // A folder with the sticky bit is meant to be shared.
            let next_step = if in_use.is_none() && self.mode & 0o1000 == 0 {
                format!("close it with `chmod 700 {}`, or set a folder of its own: {own_folder}", self.path.display())
            } else {
                format!("set a folder of its own: {own_folder}")
            };
            return Err(self.refused(&why, &next_step));
        }
        // A link that another user left there while the folder was open would be followed.
        let foreign = self.entries.iter().find(|(_, owner)| *owner != user);
        let why = match (in_use, foreign) {
            (Some((name, _)), _) => format!("it has files that are not llama-warden's, such as `{name}`"),
            (None, Some((name, owner))) => format!("`{name}` in it belongs to user {owner}"),
            (None, None) => return Ok(()),
        };
        Err(self.refused(&why, &format!("set a folder of its own: {own_folder}")))
    }

    fn refused(&self, why: &str, next_step: &str) -> CommandFailure {
        CommandFailure::usage(format!("cannot use the state directory {}: {why}", self.path.display()))
            .next_step(next_step)
    }
}

/// Device and inode number.
pub(crate) fn id(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}
