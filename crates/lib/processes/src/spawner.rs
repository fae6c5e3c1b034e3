//! Runs programs: asks the guardian for a shim, and the shim for the program.
//!
//! The daemon never forks: the cost of that grows with its memory. The guardian has always forked one shim in advance, the spare: the
//! next program is run by it while the guardian forks the next spare. A guardian that has ended is started again, and the programs that
//! run do not notice, since each has a shim of its own.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use llama_warden_procfs::{ProcessStat, RunState};
use llama_warden_support::lock;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use rustix::net::{RecvFlags, recv};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::child_process::{ChildProcess, ShimAnswer, Spawned, is_end};
use super::guardian;
use super::spawn_request::{GuardianProgram, SpawnRequest};
use super::wire::{self, ShimOrder};

/// Programs that are on their way at once. More would only wait in the guardian.
const ON_THE_WAY: usize = 16;

/// Time between two starts of the guardian, unless a program is to be run, and between two attempts.
const GUARDIAN_PAUSE: Duration = Duration::from_secs(1);

/// Descriptors that have to be free for a program to be run: for its pipes, and for connections, probes and files of the daemon.
const HEADROOM: u64 = 16;

/// Descriptors that a program on its way still needs: for its output, and for a first connection to it.
const STILL_TO_COME: u64 = 3;

/// Time for a shim to run a program. A guardian that gives none is replaced. Long, because one that is merely slow, on a busy machine,
/// must not be killed.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(20);

/// Time between two looks at a guardian that has not answered. One that is found stopped twice is replaced.
const STOPPED_LOOK: Duration = Duration::from_secs(1);

/// Runs programs. Cheap to clone; the guardian ends when the last clone is dropped and nothing runs any more.
#[derive(Debug, Clone)]
pub struct Spawner(Arc<SpawnerState>);

#[derive(Debug)]
struct SpawnerState {
    program: GuardianProgram,
    guardian: watch::Sender<Arc<GuardianLink>>,
    on_the_way: Semaphore,
}

/// The guardian as its daemon knows it.
#[derive(Debug)]
struct GuardianLink {
    socket: UnixStream,
    /// The shim that was forked in advance. It ends with this socket.
    spare: Mutex<StdUnixStream>,
    child: Mutex<Option<Child>>,
    pid: u32,
    /// When the next one may be started in its place, unless a program is to be run.
    replaceable: Mutex<Instant>,
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
        let guardian = watch::Sender::new(Arc::new(GuardianLink::start(&program)?));
        Ok(Self(Arc::new(SpawnerState { program, guardian, on_the_way: Semaphore::new(ON_THE_WAY) })))
    }

    /// The process id of the guardian.
    pub fn guardian(&self) -> u32 {
        self.link().pid
    }

    /// Completes with the process id of the guardian, once that is another than `known`: one that has ended is started again here, or
    /// where a program is to be run. Safe to cancel.
    pub async fn next_guardian(&self, known: Option<u32>) -> u32 {
        let mut guardians = self.0.guardian.subscribe();
        loop {
            let guardian = Arc::clone(&guardians.borrow_and_update());
            if Some(guardian.pid) != known {
                return guardian.pid;
            }
            tokio::select! {
                _ = guardians.changed() => {}
                () = self.revive(&guardian) => {}
            }
        }
    }

    /// Waits for the end of a guardian, and starts another in its place.
    async fn revive(&self, ended: &GuardianLink) {
        ended.ended().await;
        loop {
            let due = *lock(&ended.replaceable);
            sleep_until(due).await;
            let Err(error) = self.replace(ended) else { return };
            // What runs has shims of its own, so there is time.
            tracing::error!(%error, "the guardian process has ended and cannot be started again yet");
            *lock(&ended.replaceable) = Instant::now() + GUARDIAN_PAUSE;
        }
    }

    /// Starts another guardian in the place of `ended`, unless another caller has done so.
    fn replace(&self, ended: &GuardianLink) -> io::Result<()> {
        let mut result = Ok(());
        self.0.guardian.send_if_modified(|guardian| {
            if guardian.pid == ended.pid {
                match GuardianLink::start(&self.0.program) {
                    Ok(next) => {
                        *guardian = Arc::new(next);
                        return true;
                    }
                    Err(error) => result = Err(error),
                }
            }
            false
        });
        result
    }

    /// Runs a program. If the caller is cancelled meanwhile, the process is killed.
    ///
    /// # Errors
    /// If the kernel cannot run it.
    pub async fn spawn(&self, request: &SpawnRequest) -> io::Result<Spawned> {
        let _turn = self.0.on_the_way.acquire().await.map_err(io::Error::other)?;
        let guardian = self.link();
        let failure = match self.try_spawn(&guardian, request).await {
            Ok(spawned) => return Ok(spawned),
            Err(SpawnFailure::Refused(error)) => return Err(error),
            Err(failure) => failure,
        };
        if matches!(failure, SpawnFailure::Silent) {
            tracing::warn!(pid = guardian.pid, "the guardian process does not answer and is killed");
            guardian.kill();
        }
        // A shim that was lost alone, because somebody killed it, is no fault of the guardian.
        if matches!(failure, SpawnFailure::Silent) || guardian.has_ended() {
            self.replace(&guardian)?;
        }
        // Nothing runs: a shim that had run it would have said so, and one that is killed takes the program along.
        let guardian = self.link();
        self.try_spawn(&guardian, request).await.map_err(|failure| match failure {
            SpawnFailure::Refused(error) => error,
            SpawnFailure::Lost if guardian.has_ended() => {
                io::Error::other("the guardian ended before it ran the program")
            }
            // The kernel drops a descriptor for which the receiver has no room.
            SpawnFailure::Lost => io::Error::other(
                "the guardian made no shim for it: it has no free descriptor, or somebody killed the shim",
            ),
            SpawnFailure::Silent => io::Error::new(io::ErrorKind::TimedOut, "the guardian does not answer"),
        })
    }

    /// How many programs beside this one are being run.
    fn others_on_the_way(&self) -> u64 {
        (ON_THE_WAY - self.0.on_the_way.available_permits()).saturating_sub(1) as u64
    }

    fn link(&self) -> Arc<GuardianLink> {
        Arc::clone(&self.0.guardian.borrow())
    }

    async fn try_spawn(&self, guardian: &GuardianLink, request: &SpawnRequest) -> Result<Spawned, SpawnFailure> {
        let refused = SpawnFailure::Refused;
        let (order, block) = request.order();
        let frame = wire::encode(&ShimOrder::Spawn(order), &block).map_err(refused)?;
        let (shim, sent) = guardian.order(&frame, self.others_on_the_way())?;
        let shim = UnixStream::from_std(shim).map_err(refused)?;
        let answer = tokio::select! {
            answer = timeout(SPAWN_TIMEOUT, ChildProcess::run(shim, &frame[sent..])) => answer.map_err(|_| SpawnFailure::Silent)?,
            () = guardian.stopped() => return Err(SpawnFailure::Silent),
        };
        match answer {
            Ok(ShimAnswer::Runs(spawned)) => Ok(spawned),
            Ok(ShimAnswer::Refused(error)) | Err(error) => Err(refused(error)),
            Ok(ShimAnswer::Lost) => Err(SpawnFailure::Lost),
        }
    }
}

impl GuardianLink {
    fn start(program: &GuardianProgram) -> io::Result<Self> {
        let (near, far) = StdUnixStream::pair()?;
        near.set_nonblocking(true)?;
        let socket = UnixStream::from_std(near)?;
        let (spare, spare_far) = StdUnixStream::pair()?;
        spare.set_nonblocking(true)?;
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
        let pid = child.id();
        let replaceable = Mutex::new(Instant::now() + GUARDIAN_PAUSE);
        let child = Mutex::new(Some(child));
        let link = Self { socket, spare: Mutex::new(spare), pid, replaceable, child };
        // Waits in the socket until the guardian serves. One that ends first is seen by its end.
        let _ = link.ask_for_spare(&spare_far);
        Ok(link)
    }

    /// Gives an order to the spare, and has another one made in its place. Returns the socket of the shim, and how many bytes of the
    /// order it has taken. `others` are on their way.
    ///
    /// The order goes first: where the processors are busy, the shim is not to wait for the fork of the next one.
    fn order(&self, frame: &[u8], others: u64) -> Result<(StdUnixStream, usize), SpawnFailure> {
        // What a killed shim leaves is the guardian's to kill.
        if self.has_ended() {
            return Err(SpawnFailure::Lost);
        }
        let (mut shim, mut next) = self.exchange_spare(others)?;
        // The spare has nothing to say before it is asked, unless the kernel gave it no process; or somebody has killed it.
        if has_spoken_or_ended(&shim) {
            self.ask_for_spare(&next)?;
            (shim, next) = self.exchange_spare(others)?;
        }
        let sent = match wire::send(&shim, frame, &[]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            // It has ended, and may have said why: the guardian answers for a shim that it cannot fork.
            Err(error) if is_end(&error) => frame.len(),
            Err(error) => return Err(SpawnFailure::Refused(error)),
        };
        // Without one, the next program finds a spare that has ended.
        let _ = self.ask_for_spare(&next);
        Ok((shim, sent))
    }

    /// Takes the spare, and puts a socket in its place whose other end is to be sent to the guardian.
    fn exchange_spare(&self, others: u64) -> Result<(StdUnixStream, StdUnixStream), SpawnFailure> {
        let refused = SpawnFailure::Refused;
        let (near, far) = StdUnixStream::pair().map_err(refused)?;
        near.set_nonblocking(true).map_err(refused)?;
        require_headroom(far.as_raw_fd(), others).map_err(refused)?;
        Ok((std::mem::replace(&mut *lock(&self.spare), near), far))
    }

    fn ask_for_spare(&self, far: &StdUnixStream) -> Result<(), SpawnFailure> {
        match wire::send(&self.socket, &[0], &[far.as_fd()]) {
            Ok(_) => Ok(()),
            Err(error) if is_end(&error) => Err(SpawnFailure::Lost),
            Err(error) => Err(SpawnFailure::Refused(error)),
        }
    }

    fn has_ended(&self) -> bool {
        has_spoken_or_ended(&self.socket)
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

    /// Completes once it is stopped and does not go on by itself.
    async fn stopped(&self) {
        let mut is_stopped = false;
        loop {
            sleep(STOPPED_LOOK).await;
            let was_stopped = std::mem::replace(
                &mut is_stopped,
                ProcessStat::of(self.pid).is_some_and(|stat| stat.state == RunState::Stopped),
            );
            if was_stopped && is_stopped {
                return;
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

/// Whether the other end of a socket has sent something or is closed.
fn has_spoken_or_ended(socket: impl AsFd) -> bool {
    let peeked = recv(socket, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    !matches!(peeked, Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR))
}

/// Refuses where fewer than [`HEADROOM`] descriptors are free, beside what `others` that are on their way still need. The kernel gives a
/// new descriptor the lowest free number, so that one near the limit tells that no other is free below it.
fn require_headroom(newest: RawFd, others: u64) -> io::Result<()> {
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let needed = HEADROOM + others * STILL_TO_COME;
    if u64::from(newest.unsigned_abs()) + needed >= limit { Err(Errno::EMFILE.into()) } else { Ok(()) }
}

impl Drop for GuardianLink {
    fn drop(&mut self) {
        let Some(mut child) = lock(&self.child).take() else { return };
        // On a thread, because a guardian lives on until nothing runs below it. Without one, the zombie stays until this process ends.
        let _ = std::thread::Builder::new().name("reap".into()).spawn(move || child.wait());
    }
}
