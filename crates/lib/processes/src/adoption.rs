//! Finds the programs that have outlived an earlier daemon, and takes them over from their shims.
//!
//! A shim is trusted because the kernel identifies it: its socket lies in the state directory, it runs as this user, and it is the
//! parent of the process that it names. A socket that refuses connections belongs to a killed shim and is removed; what such a shim
//! has left is found by tag and lock.

use std::fs::{self, File};
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use llama_warden_procfs::ProcessStat;
use nix::unistd::geteuid;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::child_process::{ChildProcess, poll_receive};
use super::keeper::within;
use super::wire::{Frame, FrameReader, ProgramIdentity, ShimReport};

/// Time for a shim to hand over. It has nothing else to do.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);

/// A program that has outlived a daemon.
#[derive(Debug)]
pub struct HeldProgram {
    /// The process; dropping it kills it and everything below it. It may have ended meanwhile.
    pub process: ChildProcess,
    /// The read end of its standard output.
    pub stdout: OwnedFd,
    /// The read end of its standard error.
    pub stderr: OwnedFd,
    /// The note of the earlier daemon about it.
    pub note: Vec<u8>,
    /// What it wrote meanwhile: standard output, then standard error.
    pub output: [MissedOutput; 2],
}

/// What a program wrote while no daemon was there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MissedOutput {
    /// The last bytes, which may begin in the middle of a line.
    pub bytes: Vec<u8>,
    /// How many bytes before those are lost.
    pub lost: u64,
    /// How many line ends are among them.
    pub lost_lines: u64,
}

/// Takes over every program that waits in `folder`, and removes the sockets of killed shims.
pub async fn held_programs(folder: &Path) -> Vec<HeldProgram> {
    let mut waiting = JoinSet::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        waiting.spawn(async move {
            let path = entry.path();
            match timeout(HANDOVER_TIMEOUT, take_over(&path)).await {
                Ok(Ok(held)) => Some(held),
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    // An error means that somebody has removed it already.
                    let _ = fs::remove_file(&path);
                    None
                }
                Ok(Err(error)) => {
                    tracing::warn!(socket = %path.display(), %error, "nothing is taken over at this socket");
                    None
                }
                Err(_) => {
                    tracing::warn!(socket = %path.display(), "nothing is taken over at this socket: nobody speaks");
                    None
                }
            }
        });
    }
    waiting.join_all().await.into_iter().flatten().collect()
}

async fn take_over(path: &Path) -> io::Result<HeldProgram> {
    let nonsense = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Err(nonsense("no socket")) };
    let folder = File::open(folder)?;
    let shim = UnixStream::connect(within(&folder, name)).await?;
    let peer = shim.peer_cred()?;
    if peer.uid() != 0 && peer.uid() != geteuid().as_raw() {
        return Err(nonsense("it belongs to another user"));
    }
    let mut frames = FrameReader::default();
    let Frame { message: ShimReport::Held(identity), body: note, descriptors } = next(&shim, &mut frames).await? else {
        return Err(nonsense("it does not speak like a shim"));
    };
    let mut descriptors = descriptors.into_iter();
    let (Some(stdout), Some(stderr)) = (descriptors.next(), descriptors.next()) else {
        return Err(nonsense("it has no pipes, or this process no descriptors left"));
    };
    let page = descriptors.next();
    let mut output = [MissedOutput::default(), MissedOutput::default()];
    for missed in &mut output {
        let report = next(&shim, &mut frames).await?;
        let Frame { message: ShimReport::Output { dropped, dropped_lines, .. }, body, .. } = report else {
            return Err(nonsense("it does not speak like a shim"));
        };
        *missed = MissedOutput { bytes: body, lost: dropped, lost_lines: dropped_lines };
    }
    if !is_parent_of(peer.pid(), identity) {
        return Err(nonsense("it is not the parent of the process that it names"));
    }
    Ok(HeldProgram { process: ChildProcess::attended(shim, frames, identity, page), stdout, stderr, note, output })
}

/// Whether `shim` is the parent of a process that still is the same. One that has ended is named by the shim alone.
fn is_parent_of(shim: Option<i32>, identity: ProgramIdentity) -> bool {
    match ProcessStat::of(identity.pid).filter(|stat| stat.start_ticks == identity.start_ticks) {
        Some(stat) => shim.is_some_and(|shim| shim.unsigned_abs() == stat.parent),
        None => true,
    }
}

async fn next(shim: &UnixStream, frames: &mut FrameReader) -> io::Result<Frame<ShimReport>> {
    loop {
        if let Some(frame) = frames.next()? {
            return Ok(frame);
        }
        if !poll_fn(|context| poll_receive(shim, frames, context)).await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
