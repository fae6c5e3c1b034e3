//! Kills the processes that an earlier run of the daemon left behind.
//!
//! Every process of a launch carries a tag that begins with the id of the run. One file of the state directory holds the ids of
//! the runs whose processes may still exist ([`crate::runs_file`]). It is complete before anything is launched, so that a crash at any
//! moment finds it so. Ids are random, so that no other process carries one. A process that cleared its environment is found by the lock
//! of its server.
//!
//! A state directory can be copied while its daemon runs. In the copy, a process is left behind only if no shim and no guardian that
//! lives is above it: those have a daemon, or wait for the one of the original, or are about to kill it.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use llama_warden_events::{BootId, ServerId};
use llama_warden_support::{Durability, blocking, is_disk_full, replace_file};
use tokio::time::Instant;

use super::launch_tag::LaunchTag;
use super::lock::InstanceLock;
use super::runs_file::{DirectoryIdentity, RunsFile};
use super::sweep::{ProcessSelector, Survivor, Sweep, sweep};

/// Time for shims to see that their state directory is gone, and to kill what is below them. They look every second.
const GIVE_UP: Duration = Duration::from_secs(3);

/// Kills every process of earlier runs that used `state_dir`, except those of the `spared` launches, until `deadline`, and writes down that `boot` runs now.
///
/// In a copy of a state directory, it tells of the processes that are somebody's, and leaves them alone.
///
/// On a full disk, the daemon runs on: what is written is what fits into the old file.
///
/// # Errors
/// If the file cannot be written: the processes of this run could not be found after a crash.
pub async fn reconcile(
    state_dir: &Path,
    boot: &BootId,
    spared: &[(ServerId, LaunchTag)],
    deadline: Instant,
) -> io::Result<Sweep> {
    let folder = state_dir.to_owned();
    let look = move || {
        let file = RunsFile::read(&folder);
        let original = file.original(&folder).map(|place| (place.clone(), place.is_there()));
        (file.runs, original, InstanceLock::all(&folder))
    };
    let (earlier, original, locks) = blocking(look).await.map_err(io::Error::other)?;
    let boot = boot.to_string();
    // What a copy names is not this directory's, as long as anything of it may be somebody's.
    if original.is_none() {
        write(state_dir, earlier.iter().map(String::as_str).chain([boot.as_str()])).await?;
    }
    let orphans_only = original.as_ref().map(|(_, is_there)| {
        let patience = if *is_there { Duration::ZERO } else { GIVE_UP };
        deadline.min(Instant::now() + patience)
    });
    let mut total = Sweep::default();
    let mut unfinished = Vec::new();
    let mut attended = BTreeSet::new();
    for run in &earlier {
        let tag = LaunchTag::of_run(run);
        let spared: Vec<_> =
            spared.iter().map(|(_, spared)| spared).filter(|spared| tag.includes(spared)).cloned().collect();
        let has_spared = !spared.is_empty();
        let tagged = ProcessSelector { tag: Some(tag), spared, orphans_only, ..ProcessSelector::default() };
        let mut swept = sweep(&tagged, deadline).await;
        attended.extend(taken_attended(&mut swept));
        total.killed += swept.killed;
        if !swept.survivors.is_empty() || has_spared {
            unfinished.push(run.as_str());
            total.survivors.extend(swept.survivors);
        }
    }
    // Processes that cleared their environment still hold the lock of their server, whichever run they are of.
    let is_spared = |lock: &InstanceLock| spared.iter().any(|(server, _)| lock.path().ends_with(server.as_str()));
    for lock in locks.into_iter().filter(|lock| !is_spared(lock)) {
        let holding = ProcessSelector { lock: Some(lock.clone()), orphans_only, ..ProcessSelector::default() };
        let mut swept = sweep(&holding, deadline).await;
        let holders = taken_attended(&mut swept);
        if !holders.is_empty() {
            // The lock of the original, by another name: launches make one of their own.
            blocking(move || remove(lock.path())).await.map_err(io::Error::other)?;
        }
        attended.extend(holders);
        total.killed += swept.killed;
        // A stranger was left by no run; the launch of that server tells of it.
        total.survivors.extend(swept.survivors.into_iter().filter(|left| !matches!(left, Survivor::Stranger(_))));
    }
    if let Some((original, _)) = original.filter(|_| !attended.is_empty()) {
        tell_of_attended(state_dir, &original, &attended);
    }
    write(state_dir, unfinished.into_iter().chain([boot.as_str()])).await?;
    Ok(total)
}

/// Takes the processes out of a result that are somebody's.
fn taken_attended(swept: &mut Sweep) -> Vec<u32> {
    let mut attended = Vec::new();
    swept.survivors.retain(|left| match left {
        Survivor::Attended(pid) => {
            attended.push(*pid);
            false
        }
        _ => true,
    });
    attended
}

fn tell_of_attended(state_dir: &Path, original: &DirectoryIdentity, attended: &BTreeSet<u32>) {
    let processes = attended.iter().map(u32::to_string).collect::<Vec<_>>();
    let next = format!(
        "to end them: llama-warden down --address unix:{}/control.sock, or kill {}",
        original.path.display(),
        processes.join(" ")
    );
    tracing::warn!(
        path = %state_dir.display(),
        original = %original.path.display(),
        processes = processes.join(", "),
        next,
        "the state directory is a copy; the processes of its original run on and are left alone"
    );
}

/// Removes the names from `folder` that a copy of a state directory, made with hard links, has in common with its original: what listens
/// there is the original's. Does nothing in a directory that is no copy.
pub async fn drop_common_names(state_dir: &Path, folder: PathBuf) {
    let state_dir = state_dir.to_owned();
    let drop_them = move || {
        if RunsFile::read(&state_dir).original(&state_dir).is_none() {
            return;
        }
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.metadata().is_ok_and(|found| found.nlink() > 1) {
                remove(&entry.path());
            }
        }
    };
    // An error means that the runtime shuts down.
    let _ = blocking(drop_them).await;
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::warn!(path = %path.display(), %error, "a file that belongs to another state directory cannot be removed");
    }
}

/// Writes down that `boot` runs, beside the runs that are written down: for a state directory that was made anew under it.
///
/// # Errors
/// As [`reconcile`].
pub async fn write_down(state_dir: &Path, boot: &BootId) -> io::Result<()> {
    let (folder, boot) = (state_dir.to_owned(), boot.to_string());
    let read = move || {
        let file = RunsFile::read(&folder);
        // Those of a copy are written down in its original.
        if file.original(&folder).is_some() { Vec::new() } else { file.runs }
    };
    let others = blocking(read).await.map_err(io::Error::other)?;
    let others = others.iter().map(String::as_str).filter(|other| *other != boot);
    write(state_dir, others.chain([boot.as_str()])).await
}

/// Makes a state directory a copy of `state_dir`: a daemon has lost it, goes on in the other one, and is still the daemon of what the
/// file names. May block.
pub fn hand_down(lost: &Path, state_dir: &Path) {
    let file = RunsFile { place: DirectoryIdentity::of(state_dir), ..RunsFile::read(lost) };
    if let Err(error) = replace_file(&RunsFile::path(lost), file.text().as_bytes(), Durability::PowerCut) {
        let path = lost.display();
        tracing::warn!(%path, %error, "the former state directory still names the servers of this daemon; start no other one on it");
    }
}

/// Replaces the file in one step: after a crash it is the old one or the new one.
async fn write<'a>(state_dir: &Path, runs: impl Iterator<Item = &'a str>) -> io::Result<()> {
    let (state_dir, runs) = (state_dir.to_owned(), runs.map(str::to_owned).collect());
    let replace = move || {
        let (path, text) =
            (RunsFile::path(&state_dir), RunsFile { runs, place: DirectoryIdentity::of(&state_dir) }.text());
        match replace_file(&path, text.as_bytes(), Durability::PowerCut) {
            Err(error) if is_disk_full(&error) => {
                // The block of the old file has room for some hundred ids.
                let overwritten = OpenOptions::new().write(true).open(&path).and_then(|mut file| {
                    file.write_all(text.as_bytes())?;
                    file.set_len(text.len() as u64)
                });
                if overwritten.is_err() {
                    tracing::warn!(%error, "this run is not written down: after a crash, the next one may not find its processes");
                }
                Ok(())
            }
            replaced => replaced,
        }
    };
    blocking(replace).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command};
    use std::time::Duration;

    use super::*;

    fn tagged(value: &str) -> Child {
        let mut command = Command::new("/bin/sleep");
        command.arg("60").env(crate::launch_tag::LAUNCH_TAG_VARIABLE, value).spawn().expect("spawns")
    }

    #[tokio::test]
    async fn processes_of_an_earlier_run_are_killed_and_bystanders_are_not() {
        let state_dir = tempfile::tempdir().expect("tempdir");
        let (earlier, now) = (BootId::from_random(0xdead_0001), BootId::from_random(0xdead_0002));
        let deadline = || Instant::now() + Duration::from_secs(10);
        assert_eq!(reconcile(state_dir.path(), &earlier, &[], deadline()).await.expect("works"), Sweep::default());

        let mut leftover = tagged(&format!("{earlier}/a/1"));
        let mut bystander = tagged(&format!("{}/a/1", BootId::from_random(0xdead_0003)));
        let swept = reconcile(state_dir.path(), &now, &[], deadline()).await.expect("works");
        assert_eq!(swept, Sweep { killed: 1, survivors: Vec::new() });
        assert_eq!(leftover.wait().expect("ended").signal(), Some(9));
        assert_eq!(bystander.try_wait().expect("readable"), None, "the bystander lives");
        let file = RunsFile::read(state_dir.path());
        assert_eq!((&file.runs, file.original(state_dir.path())), (&vec![now.to_string()], None));
        bystander.kill().expect("ours");
        bystander.wait().expect("ended");
    }

    #[tokio::test]
    async fn a_garbled_file_names_nobody() {
        let state_dir = tempfile::tempdir().expect("tempdir");
        let mut bystander = tagged("/a/1");
        let boot = BootId::from_random(0xdead_0004);
        for garbage in [&b""[..], b"\n\n\n", b"\xff\xfe", b"0000", b"../../etc/passwd\n", b"{\"boot\": 1}\n"] {
            fs::write(RunsFile::path(state_dir.path()), garbage).expect("write");
            let swept = reconcile(state_dir.path(), &boot, &[], Instant::now()).await.expect("works");
            assert_eq!(swept, Sweep::default(), "{garbage:?}");
        }
        assert_eq!(bystander.try_wait().expect("readable"), None, "the bystander lives");
        bystander.kill().expect("ours");
        bystander.wait().expect("ended");
    }

    #[tokio::test]
    async fn a_state_directory_that_cannot_be_written_is_an_error() {
        let boot = BootId::from_random(0xdead_0005);
        assert!(reconcile(Path::new("/no/such/folder"), &boot, &[], Instant::now()).await.is_err());
    }
}
