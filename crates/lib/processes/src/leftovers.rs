//! Kills the processes that an earlier run of the daemon left behind.
//!
//! Every process of a launch carries a tag that begins with the id of the run. One file of the state directory holds the ids of
//! the runs whose processes may still exist. It is written before anything is launched, so that a crash at any moment finds it
//! complete. Ids are random, so that no other process carries one. A process that cleared its environment is found by the lock
//! of its server.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use llama_warden_events::{BootId, ServerId};
use llama_warden_support::{Durability, blocking, is_disk_full, read_regular, replace_file};
use tokio::time::Instant;

use super::launch_tag::LaunchTag;
use super::lock::InstanceLock;
use super::sweep::{ProcessSelector, Survivor, Sweep, sweep};

/// The name of the file in the state directory.
const FILE: &str = "boots";

/// Longest file in bytes: room for the ids of many thousand runs that left processes behind.
const MAX_BYTES: u64 = 1 << 20;

/// Kills every process of earlier runs that used `state_dir`, except those of the `spared` launches, until `deadline`, and writes down that `boot` runs now.
///
/// Lines that are not an id are ignored, such as those of a file that was cut off.
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
    let (path, boot) = (state_dir.join(FILE), boot.to_string());
    let (file, folder) = (path.clone(), state_dir.to_owned());
    let found = blocking(move || (read(&file), InstanceLock::all(&folder))).await;
    let (earlier, locks) = found.map_err(io::Error::other)?;
    write(&path, earlier.iter().map(String::as_str).chain([boot.as_str()])).await?;
    let mut total = Sweep::default();
    let mut unfinished = Vec::new();
    for run in &earlier {
        let tag = LaunchTag::of_run(run);
        let spared: Vec<_> =
            spared.iter().map(|(_, spared)| spared).filter(|spared| tag.includes(spared)).cloned().collect();
        let has_spared = !spared.is_empty();
        let tagged = ProcessSelector { tag: Some(tag), spared, ..ProcessSelector::default() };
        let swept = sweep(&tagged, deadline).await;
        total.killed += swept.killed;
        if !swept.survivors.is_empty() || has_spared {
            unfinished.push(run.as_str());
            total.survivors.extend(swept.survivors);
        }
    }
    // Processes that cleared their environment still hold the lock of their server, whichever run they are of.
    let is_spared = |lock: &InstanceLock| spared.iter().any(|(server, _)| lock.path().ends_with(server.as_str()));
    for lock in locks.into_iter().filter(|lock| !is_spared(lock)) {
        let holding = ProcessSelector { lock: Some(lock), ..ProcessSelector::default() };
        let swept = sweep(&holding, deadline).await;
        total.killed += swept.killed;
        // A stranger was left by no run; the launch of that server tells of it.
        total.survivors.extend(swept.survivors.into_iter().filter(|left| !matches!(left, Survivor::Stranger(_))));
    }
    write(&path, unfinished.into_iter().chain([boot.as_str()])).await?;
    Ok(total)
}

/// Writes down that `boot` runs, beside the runs that are written down: for a state directory that was made anew under it.
///
/// # Errors
/// As [`reconcile`].
pub async fn write_down(state_dir: &Path, boot: &BootId) -> io::Result<()> {
    let (path, boot) = (state_dir.join(FILE), boot.to_string());
    let file = path.clone();
    let others = blocking(move || read(&file)).await.map_err(io::Error::other)?;
    let others = others.iter().map(String::as_str).filter(|other| *other != boot);
    write(&path, others.chain([boot.as_str()])).await
}

fn read(path: &Path) -> Vec<String> {
    let text = read_regular(path, MAX_BYTES).unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            let path = path.display();
            tracing::warn!(%path, %error, "earlier runs are not known; what they left behind may not be found");
        }
        Vec::new()
    });
    run_ids(&text)
}

/// The ids of runs that the content of the file names.
pub fn run_ids(text: &[u8]) -> Vec<String> {
    let is_id = |line: &&str| line.len() == 16 && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    String::from_utf8_lossy(text).lines().filter(is_id).map(str::to_owned).collect()
}

/// Replaces the file in one step: after a crash it is the old one or the new one.
async fn write<'a>(path: &Path, runs: impl Iterator<Item = &'a str>) -> io::Result<()> {
    let text: String = runs.flat_map(|run| [run, "\n"]).collect();
    let path = path.to_owned();
    let replace = move || match replace_file(&path, text.as_bytes(), Durability::PowerCut) {
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
        assert_eq!(read(&state_dir.path().join(FILE)), [now.to_string()]);
        bystander.kill().expect("ours");
        bystander.wait().expect("ended");
    }

    #[tokio::test]
    async fn a_garbled_file_names_nobody() {
        let state_dir = tempfile::tempdir().expect("tempdir");
        let mut bystander = tagged("/a/1");
        let boot = BootId::from_random(0xdead_0004);
        for garbage in [&b""[..], b"\n\n\n", b"\xff\xfe", b"0000", b"../../etc/passwd\n", b"{\"boot\": 1}\n"] {
            fs::write(state_dir.path().join(FILE), garbage).expect("write");
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
