//! Runs programs: asks the guardian for a shim, and the shim for the program.
//!
//! The daemon never forks: the cost of that grows with its memory. A guardian that has ended is started again, and the programs that
//! run do not notice, since each has a shim of its own.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use llama_warden_support::lock;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout};

use super::child_process::{Answer, ChildProcess};
use super::guardian;
use super::spawn_request::{GuardianProgram, SpawnRequest};
use super::wire;

/// Programs that are on their way at once. More would only wait in the guardian.
const ON_THE_WAY: usize = 16;

/// Least time between two starts of the guardian, unless a program is to be run.
const GUARDIAN_PAUSE: Duration = Duration::from_secs(1);

/// Descriptors that have to be free for a program to be run, beside its own: for connections, probes and files of the daemon.
const HEADROOM: usize = 8;

/// Time for a shim to run a program. A guardian that gives none is stopped, or starved, and is replaced.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(20);

/// Runs programs. Cheap to clone; the guardian ends when the last clone is dropped and nothing runs any more.
#[derive(Debug, Clone)]
pub struct Spawner(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    program: GuardianProgram,
    guardian: Mutex<Arc<GuardianLink>>,
    on_the_way: Semaphore,
}

/// The guardian as its daemon knows it.
#[derive(Debug)]
struct GuardianLink {
    socket: UnixStream,
    child: Mutex<Option<Child>>,
    pid: u32,
    started: Instant,
}

/// A program that runs, with our ends of its pipes.
#[derive(Debug)]
pub struct Spawned {
    /// The process; dropping it kills it and everything below it.
    pub process: ChildProcess,
    /// The read end of its standard output.
    pub stdout: OwnedFd,
    /// The read end of its standard error.
    pub stderr: OwnedFd,
}

/// Why a program does not run.
#[derive(Debug)]
enum SpawnFailure {
    /// The guardian or the shim has ended before it ran the program.
    Lost,
    /// Nobody answered in time.
    Silent,
    /// The kernel refused.
    Refused(io::Error),
}

impl Spawner {
    /// Starts the guardian. Must be called in a runtime.
    ///
    /// # Errors
    /// If the kernel gives no process.
    pub fn start(program: GuardianProgram) -> io::Result<Self> {
        let guardian = Mutex::new(Arc::new(GuardianLink::start(&program)?));
        Ok(Self(Arc::new(Shared { program, guardian, on_the_way: Semaphore::new(ON_THE_WAY) })))
    }

    /// The process id of the guardian.
    pub fn guardian(&self) -> u32 {
        self.link().pid
    }

    /// Completes with the process id of the guardian once it has ended, and not within a second of its start. Safe to cancel.
    pub async fn guardian_ended(&self) -> u32 {
        let guardian = self.link();
        guardian.ended().await;
        sleep_until(guardian.started + GUARDIAN_PAUSE).await;
        guardian.pid
    }

    /// Starts another guardian with a warning, unless another caller has done so since `ended` was the guardian.
    ///
    /// # Errors
    /// If the kernel gives no process.
    pub fn replace_guardian(&self, ended: u32) -> io::Result<()> {
        let mut guardian = lock(&self.0.guardian);
        if guardian.pid == ended {
            *guardian = Arc::new(GuardianLink::start(&self.0.program)?);
            tracing::warn!(ended, now = guardian.pid, "the guardian process was killed and is started again");
        }
        Ok(())
    }

    /// Runs a program. If the caller is cancelled meanwhile, the process is killed.
    ///
    /// # Errors
    /// If the kernel cannot run it.
    pub async fn spawn(&self, request: &SpawnRequest) -> io::Result<Spawned> {
        let _turn = self.0.on_the_way.acquire().await.map_err(io::Error::other)?;
        let guardian = self.link();
        match self.try_spawn(&guardian, request).await {
            Ok(spawned) => Ok(spawned),
            Err(SpawnFailure::Refused(error)) => Err(error),
            Err(failure) => {
                if matches!(failure, SpawnFailure::Silent) {
                    tracing::warn!(pid = guardian.pid, "the guardian process does not answer and is killed");
                    guardian.kill();
                }
                self.replace_guardian(guardian.pid)?;
                // Nothing runs: a shim that had run it would have said so, and one that is killed takes the program along.
                self.try_spawn(&self.link(), request).await.map_err(|failure| match failure {
                    SpawnFailure::Refused(error) => error,
                    SpawnFailure::Lost => io::Error::other("the guardian ended before it ran the program"),
                    SpawnFailure::Silent => io::Error::new(io::ErrorKind::TimedOut, "the guardian does not answer"),
                })
            }
        }
    }

    fn link(&self) -> Arc<GuardianLink> {
        Arc::clone(&lock(&self.0.guardian))
    }

    async fn try_spawn(&self, guardian: &GuardianLink, request: &SpawnRequest) -> Result<Spawned, SpawnFailure> {
        let refused = SpawnFailure::Refused;
        let (near, far) = StdUnixStream::pair().map_err(refused)?;
        near.set_nonblocking(true).map_err(refused)?;
        let headroom: io::Result<Vec<OwnedFd>> = (0..HEADROOM).map(|_| near.as_fd().try_clone_to_owned()).collect();
        drop(headroom.map_err(refused)?);
        match wire::send(&guardian.socket, &[0], &[far.as_fd()]) {
            Ok(_) => drop(far),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Err(SpawnFailure::Lost),
            Err(error) => return Err(refused(error)),
        }
        let shim = UnixStream::from_std(near).map_err(refused)?;
        let (order, block) = request.order();
        match timeout(SPAWN_TIMEOUT, ChildProcess::run(shim, order, &block)).await {
            Ok(Ok(Answer::Runs(spawned))) => Ok(spawned),
            Ok(Ok(Answer::Refused(error)) | Err(error)) => Err(refused(error)),
            Ok(Ok(Answer::Lost)) => Err(SpawnFailure::Lost),
            Err(_) => Err(SpawnFailure::Silent),
        }
    }
}

impl GuardianLink {
    fn start(program: &GuardianProgram) -> io::Result<Self> {
        let (near, far) = StdUnixStream::pair()?;
        near.set_nonblocking(true)?;
        let socket = UnixStream::from_std(near)?;
        let program = match program {
            // Also where another build has been installed over it since.
            GuardianProgram::OwnExecutable => Path::new("/proc/self/exe"),
            GuardianProgram::Path(path) => path,
        };
        let child = Command::new(program)
            .arg0(guardian::NAME)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(far)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { socket, pid: child.id(), started: Instant::now(), child: Mutex::new(Some(child)) })
    }

    /// Completes once the other end of the socket is closed; the guardian sends nothing.
    async fn ended(&self) {
        while self.socket.readable().await.is_ok() {
            match self.socket.try_read(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }

    fn kill(&self) {
        if let Some(child) = &mut *lock(&self.child) {
            // It is not reaped yet. An error means that it has ended.
            let _ = child.kill();
        }
    }
}

impl Drop for GuardianLink {
    fn drop(&mut self) {
        let Some(mut child) = lock(&self.child).take() else { return };
        // On a thread, because a guardian lives on until nothing runs below it. Without one, the zombie stays until this process ends.
        let _ = std::thread::Builder::new().name("reap".into()).spawn(move || child.wait());
    }
}
