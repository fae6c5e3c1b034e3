//! The guardian: the daemon's first child, a fork server, and the last parent of everything that the daemon runs.
//!
//! It is the daemon's own executable under another name, with one thread, no open files of the daemon and no environment. For each
//! socket that the daemon sends, it forks a shim, which serves that socket. It forks instead of executing, because
//! that costs a tenth of the time and of the memory (measured: docs/decisions/0021-guardian-and-shims.md).
//!
//! It is a subreaper: what a killed shim leaves behind becomes its child, and is killed. It outlives the daemon until it has no child.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use llama_warden_procfs::ProcessStat;
use nix::sys::prctl;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction};
use nix::sys::signalfd::SignalFd;
use nix::unistd::{ForkResult, dup2_stdin, fork, setsid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::descent::{self, ChildNews};
use crate::shim;

/// The `argv[0]` under which the daemon's own executable acts as the guardian. Without the name of the product: who kills the
/// daemon by its name does not mean the guardian.
pub const NAME: &str = "warden-guardian";

/// Time for what is left when the daemon and all shims are gone.
const LAST_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two rounds of KILL then.
const KILL_ROUND: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Runs the guardian to its end, if the first argument is [`NAME`].
///
/// Call it first thing in `main`, before any thread exists: `if let Some(code) = guardian::run_if_requested(args_os())
/// { return code }`.
pub fn run_if_requested(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    if arguments.into_iter().next().is_none_or(|name| name != NAME) {
        return None;
    }
    // Nobody reads an error: the daemon sees the end of the socket.
    Some(if run().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether a guardian or a shim, of whichever daemon, is above a process. Those are told by their arguments, which they have in common
/// and which nothing else has.
pub(crate) fn is_above(pid: u32) -> bool {
    let is_one = |pid: u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).next() == Some(NAME.as_bytes())
    };
    let above = std::iter::successors(ProcessStat::of(pid), |below| ProcessStat::of(below.parent));
    above.map(|below| below.parent).any(is_one)
}

fn run() -> io::Result<()> {
    setsid()?;
    prctl::set_child_subreaper(true)?;
    prctl::set_name(c"warden-guardian")?;
    let daemon = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    dup2_stdin(OwnedFd::from(File::open("/dev/null")?))?;
    close_inherited(&daemon);
    reset_signals()?;
    Guardian {
        daemon: Some(daemon),
        ends: shim::signal_of_ended_children()?,
        shims: BTreeSet::new(),
        has_strangers: false,
        last_deadline: None,
    }
    .serve()
}

/// Closes descriptors that the daemon inherited itself. std opens everything close-on-exec; the program that started the daemon may
/// not.
fn close_inherited(daemon: &UnixStream) {
    use std::os::fd::AsRawFd;
    // Collected first: reading the folder takes a descriptor, which is in the list.
    let files: Vec<RawFd> = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for file in files.into_iter().filter(|file| *file > 2 && *file != daemon.as_raw_fd()) {
        // An error is expected for the descriptor of the folder, which is closed already.
        let _ = nix::unistd::close(file);
    }
}

/// Blocks every signal, so that none ends the guardian or a shim, and gives each its default action, which programs inherit: who
/// started the daemon may have made it ignore some.
fn reset_signals() -> io::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator().filter(|signal| !matches!(signal, Signal::SIGKILL | Signal::SIGSTOP)) {
        #[expect(unsafe_code, reason = "the wrapper leaves to us which action is taken")]
        // SAFETY: the default action runs no code of this program.
        unsafe {
            sigaction(signal, &default)?;
        }
    }
    Ok(nix::sys::signal::pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None)?)
}

#[derive(Debug)]
struct Guardian {
    /// `None` once the daemon is gone.
    daemon: Option<UnixStream>,
    /// Readable when a child has ended.
    ends: SignalFd,
    shims: BTreeSet<u32>,
    /// Whether there may be children that a dead shim has left.
    has_strangers: bool,
    /// When the wait for the last processes is over.
    last_deadline: Option<Instant>,
}

impl Guardian {
    fn serve(mut self) -> io::Result<()> {
        loop {
            let has_children = self.reap();
            if self.daemon.is_none() {
                if !has_children || self.last_deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                    return Ok(());
                }
                if self.shims.is_empty() {
                    self.last_deadline.get_or_insert_with(|| Instant::now() + LAST_TIMEOUT);
                }
            }
            // The end of a stranger starts the next round. While the daemon lives, one that cannot be killed costs little.
            let pause = match self.last_deadline {
                Some(_) => Some(KILL_ROUND),
                None => self.has_strangers.then_some(Timespec { tv_sec: 1, tv_nsec: 0 }),
            };
            let mut polled = vec![PollFd::new(&self.ends, PollFlags::IN)];
            polled.extend(self.daemon.iter().map(|daemon| PollFd::new(daemon, PollFlags::IN)));
            match poll(&mut polled, pause.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let is_spoken_to = polled.get(1).is_some_and(|daemon| !daemon.revents().is_empty());
            while matches!(self.ends.read_signal(), Ok(Some(_))) {}
            if is_spoken_to {
                self.hear();
            }
        }
    }

    /// Reaps what has ended and kills what dead shims have left. Returns whether there are children.
    fn reap(&mut self) -> bool {
        let has_children = loop {
            match descent::next_ended(None) {
                ChildNews::Ended(pid) => {
                    descent::reap(pid);
                    self.on_ended(pid);
                }
                ChildNews::Reaped(pid) => self.on_ended(pid),
                ChildNews::NoneEnded => break true,
                ChildNews::NoChild => break false,
            }
        };
        if self.has_strangers {
            let killed = descent::kill_children(|pid| self.shims.contains(&pid));
            self.has_strangers = killed > 0;
        }
        has_children
    }

    /// Only a process that has ended leaves children to this one.
    fn on_ended(&mut self, pid: u32) {
        self.shims.remove(&pid);
        self.has_strangers = true;
    }

    /// Forks a shim for each socket that came.
    fn hear(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        match receive_socket(daemon) {
            Ok(Some(socket)) => self.fork(socket),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Ok(None) | Err(_) => self.daemon = None,
        }
    }

    fn fork(&mut self, socket: OwnedFd) {
        #[expect(unsafe_code, reason = "a fork costs a tenth of an exec, and copies what the shim needs")]
        // SAFETY: this process has one thread, so that no lock is held by another one in the child.
        let forked = unsafe { fork() };
        match forked {
            Ok(ForkResult::Parent { child }) => drop(self.shims.insert(child.as_raw().unsigned_abs())),
            Ok(ForkResult::Child) => {
                // A copy of the guardian's socket would hide its end from the daemon.
                self.daemon = None;
                // For people, until it gets the name of its program; one that the kernel refuses does not matter.
                let _ = prctl::set_name(c"shim");
                let code = if shim::run(UnixStream::from(socket)).is_ok() { 0 } else { 1 };
                std::process::exit(code);
            }
            // Without an answer, the daemon takes this process for dead.
            Err(errno) => drop(shim::refuse(&UnixStream::from(socket), errno as i32)),
        }
    }
}

/// The socket that comes with the next byte; `None` at the end of the stream.
fn receive_socket(daemon: &UnixStream) -> rustix::io::Result<Option<OwnedFd>> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = recvmsg(daemon, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let socket = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
        _ => None,
    });
    // A byte without a socket: the kernel had no room for it.
    socket.map(Some).ok_or(rustix::io::Errno::AGAIN)
}
