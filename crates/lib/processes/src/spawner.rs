//! Spawns processes from one thread that lives as long as they do.
//!
//! The parent-death signal of a child is bound to the *thread* that spawned it: from a pool thread it would fire when the pool
//! shrinks. Each [`Spawner`] owns one thread. It ends when the last clone is dropped, and every
//! [`ChildProcess`](super::child_process::ChildProcess) holds a clone. The thread never waits for a child and never reaps one.

use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;

use super::child::{ChildSet, UnreapedChild};
use super::shim;
use super::spawn_request::{ShimProgram, SpawnRequest};

/// Spawns processes on a thread of its own. Cheap to clone; the thread ends with the last clone.
#[derive(Debug, Clone)]
pub struct Spawner {
    thread: Arc<Thread>,
}

/// The channel to the thread, which ends when it is closed.
#[derive(Debug)]
struct Thread {
    jobs: mpsc::Sender<Job>,
    children: ChildSet,
}

/// A process that was spawned, with our ends of its pipes.
#[derive(Debug)]
pub struct Spawned {
    /// The process; dropping it kills and reaps it.
    pub child: UnreapedChild,
    /// The read end of its standard output.
    pub stdout: OwnedFd,
    /// The read end of its standard error.
    pub stderr: OwnedFd,
    /// Carries the errno of a failed exec, or ends when exec succeeds. `None` without a shim: exec has succeeded already.
    pub exec_errors: Option<OwnedFd>,
}

#[derive(Debug)]
struct Job {
    request: SpawnRequest,
    reply: oneshot::Sender<io::Result<Spawned>>,
}

impl Spawner {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the kernel gives no thread.
    pub fn start() -> io::Result<Self> {
        // Unbounded, but each launch has at most one job in it, because it waits for the reply.
        let (jobs, inbox) = mpsc::channel::<Job>();
        let children = ChildSet::default();
        let made = children.clone();
        std::thread::Builder::new().name("spawner".into()).spawn(move || {
            for Job { request, reply } in inbox {
                // If the caller is gone, the reply is dropped, and with it the process is killed.
                drop(reply.send(spawn(&request, &made)));
            }
        })?;
        Ok(Self { thread: Arc::new(Thread { jobs, children }) })
    }

    /// The children that were spawned and are not reaped yet.
    pub fn children(&self) -> &ChildSet {
        &self.thread.children
    }

    /// Spawns one process. If the caller is cancelled meanwhile, the process is killed.
    pub async fn spawn(&self, request: SpawnRequest) -> io::Result<Spawned> {
        let (reply, spawned) = oneshot::channel();
        let ended = || io::Error::other("the spawner thread has ended");
        self.thread.jobs.send(Job { request, reply }).map_err(|_| ended())?;
        spawned.await.map_err(|_| ended())?
    }
}

fn spawn(request: &SpawnRequest, children: &ChildSet) -> io::Result<Spawned> {
    let (stdout, stdout_writer) = io::pipe()?;
    let (stderr, stderr_writer) = io::pipe()?;
    let (mut command, exec_errors) = match &request.shim {
        ShimProgram::OwnExecutable => through_shim(Path::new("/proc/self/exe"), request)?,
        ShimProgram::Path(path) => through_shim(path, request)?,
        ShimProgram::None => (directly(request), None),
    };
    command
        .env_clear()
        .envs(&request.environment)
        .stdout(Stdio::from(stdout_writer))
        .stderr(Stdio::from(stderr_writer));
    // Locked over the fork, so that the reaper of orphans never sees a child that is not in the set.
    let mut pids = children.lock();
    let pid = command.spawn()?.id();
    pids.insert(pid);
    Ok(Spawned {
        child: UnreapedChild::new(pid, children.clone()),
        stdout: stdout.into(),
        stderr: stderr.into(),
        exec_errors: exec_errors.map(OwnedFd::from),
    })
}

fn through_shim(shim: &Path, request: &SpawnRequest) -> io::Result<(Command, Option<PipeReader>)> {
    let (exec_errors, exec_errors_writer) = io::pipe()?;
    let mut command = Command::new(shim);
    command.arg0(shim::NAME).args(shim::arguments(request)).stdin(Stdio::from(exec_errors_writer));
    Ok((command, Some(exec_errors)))
}

fn directly(request: &SpawnRequest) -> Command {
    let mut command = Command::new(&request.program);
    command.args(&request.arguments).stdin(Stdio::null()).process_group(0);
    command
}
