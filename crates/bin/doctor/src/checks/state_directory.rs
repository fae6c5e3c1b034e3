//! The folder of the daemon's own files.

use std::path::Path;

use llama_warden_daemon::StateDir;
use llama_warden_inventory::LoadedConfig;
use llama_warden_state_files::{UnreadableFile, unreadable};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use crate::finding::{Area, Finding};

/// Below this much free space the state, and logs of a daemon in the background, are soon lost.
const LEAST_FREE: u64 = 64 << 20;

pub(crate) fn look(loaded: &LoadedConfig) -> Vec<Finding> {
    let path = match loaded.state_dir() {
        Ok(path) => path,
        Err(failure) => return Area::StateDirectory.failure(&failure),
    };
    if let Err(failure) = StateDir::examine(&path) {
        return Area::StateDirectory.failure(&failure);
    }
    let Some(present) = path.ancestors().find(|part| part.exists()) else { return Vec::new() };
    if access(present, AccessFlags::W_OK | AccessFlags::X_OK).is_err() {
        return vec![Area::StateDirectory.fault(
            format!("this user may not write {}", present.display()),
            "name another folder as `daemon.state-dir`, or run the daemon as the owner",
        )];
    }
    let mut findings: Vec<Finding> = little_space(&path, present).into_iter().collect();
    findings.extend(unreadable(&path).into_iter().map(|UnreadableFile { path, error }| {
        Area::StateDirectory.warning(
            format!("{} cannot be read, and what it keeps does not count: {error}", path.display()),
            "put it back from a copy before the next start, or remove it; the daemon makes it anew",
        )
    }));
    if findings.is_empty() {
        findings.push(Area::StateDirectory.good(format!("{} can be used", path.display())));
    }
    findings
}

fn little_space(path: &Path, present: &Path) -> Option<Finding> {
    let disk = statvfs(present).ok()?;
    let free = disk.blocks_available() as u64 * disk.fragment_size() as u64;
    (free < LEAST_FREE).then(|| {
        Area::StateDirectory.warning(
            format!("{} MiB are free on the disk of {}", free >> 20, path.display()),
            "free some space, or name a folder on another disk as `daemon.state-dir`",
        )
    })
}
