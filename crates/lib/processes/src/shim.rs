//! The shim: parent and subreaper of one program and of everything below it.
//!
//! The guardian forks one for each launch, question and hook. It has one thread and knows its daemon only as a socket, whose end is
//! the daemon's death, however that came. Nothing below it can escape: see [`crate::descent`].
//!
//! | what happens | the shim |
//! |---|---|
//! | the program ends by itself | kills its group and its descendants, then reports |
//! | it ends after a signal of the daemon | lets the others have their time until they end, or the daemon says [`ShimOrder::Kill`] |
//! | the daemon is gone | kills everything, and ends; or keeps everything for the next daemon ([`crate::keeper`]) |

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use llama_warden_events::{ProcessEnd, StreamName};
use llama_warden_procfs::ProcessStat;
use llama_warden_support::{is_disk_full, open_regular};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::descent::{self, ChildNews};
use crate::keeper::{Doorway, KeptPipe};
use crate::kept_page::KeptPage;
use crate::lock::MARK;
use crate::program::ProgramBlock;
use crate::wire::{self, EndReport, Frame, FrameReader, Keeping, ProgramIdentity, ShimOrder, ShimReport, SpawnOrder};

/// Time for the descendants to end after KILL. One that is still there waits in the kernel, or may not be killed by us.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two looks whether the next daemon could still find the socket.
const DOORWAY_LOOK: Duration = Duration::from_secs(1);
/// Time for the next daemon to read what it takes over.
const HANDOVER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two rounds of KILL. The end of a killed process starts the next round at once; this is for one that is born in the
/// moment of a round.
const KILL_ROUND: Duration = Duration::from_millis(20);
/// Most of it, once rounds have no effect.
const MAX_KILL_ROUND: Duration = Duration::from_secs(1);

/// Runs the shim in this process, to its end.
pub(crate) fn run(daemon: UnixStream) -> io::Result<()> {
    prctl::set_child_subreaper(true)?;
    // Made before the order comes, because a launch waits from then on.
    let ends = signal_of_ended_children()?;
    let mut frames = FrameReader::default();
    let Frame { message, body, .. } = loop {
        if let Some(frame) = frames.next::<ShimOrder>()? {
            break frame;
        }
        if frames.receive(&daemon)? == 0 {
            return Ok(());
        }
    };
    let ShimOrder::Spawn(order) = message else { return Err(io::ErrorKind::InvalidData.into()) };
    // The name is for people, so that one that the kernel refuses does not matter.
    let _ = std::ffi::CString::new(order.name.as_str()).map(|name| prctl::set_name(&name));
    // Before the program runs: from then on the daemon counts on it.
    let (doorway, unkept) = match order.keeping.as_ref().filter(|_| order.outlives).map(Doorway::open).transpose() {
        // A program that might not outlive its daemon is better than none, and the disk may have room by then.
        Err(error) if is_disk_full(&error) => (Ok(None), error.raw_os_error()),
        opened => (opened, None),
    };
    match doorway.and_then(|doorway| Ok((doorway, start(&order, &body)?))) {
        Ok((doorway, (leader, pipes))) => {
            let start_ticks = ProcessStat::of(leader).map_or(0, |stat| stat.start_ticks);
            let identity = ProgramIdentity { pid: leader, start_ticks };
            let mut shim = Shim::new(daemon, frames, ends, identity, pipes, order.may_leave_descendants);
            (shim.outlives, shim.doorway) = (order.outlives, doorway);
            shim.page = order.keeping.as_ref().and_then(|_| KeptPage::create());
            (shim.keeping, shim.note) = (order.keeping, order.note.into_bytes());
            shim.introduce(&ShimReport::Spawned(identity), &[]);
            if let Some(errno) = unkept {
                shim.report(&ShimReport::Unkept { errno });
            }
            shim.attend()
        }
        Err(error) => refuse(&daemon, error.raw_os_error().unwrap_or(Errno::EINVAL as i32)),
    }
}

/// A descriptor that is readable when a child has ended.
pub(crate) fn signal_of_ended_children() -> io::Result<SignalFd> {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGCHLD);
    Ok(SignalFd::with_flags(&ends, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// Reports that the program cannot be run.
pub(crate) fn refuse(daemon: &UnixStream, errno: i32) -> io::Result<()> {
    tell(daemon, &ShimReport::Refused { errno }, &[], &[])
}

/// Runs the program, and returns its id and the read ends of its pipes.
fn start(order: &SpawnOrder, block: &[u8]) -> io::Result<(u32, [PipeReader; 2])> {
    let program = ProgramBlock::new(block, order.arguments)?;
    let (stdout, stdout_writer) = io::pipe()?;
    let (stderr, stderr_writer) = io::pipe()?;
    // Open until the program has its copy.
    let _lock = order.lock.as_deref().map(hold).transpose()?;
    Ok((program.run(&stdout_writer, &stderr_writer)?, [stdout, stderr]))
}

/// Takes a share of a lock, on a descriptor that the next program inherits. The position in the file marks it as one of a shim.
fn hold(path: &Path) -> io::Result<File> {
    let mut file = open_regular(path, OpenOptions::new().write(true))?;
    file.lock_shared()?;
    file.seek(SeekFrom::Start(MARK))?;
    fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(file)
}

fn tell(daemon: &UnixStream, report: &ShimReport, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = wire::encode(report, body)?;
    let mut sent = wire::send(daemon, &bytes, descriptors)?;
    while sent < bytes.len() {
        sent += wire::send(daemon, &bytes[sent..], &[])?;
    }
    Ok(())
}

/// The program that the shim was made for.
#[derive(Debug)]
enum ShimProgram {
    Running(u32),
    Ended { end: ProcessEnd, control_groups: String },
}

/// The state of a shim whose program was run.
#[derive(Debug)]
struct Shim {
    /// `None` while no daemon is there.
    daemon: Option<UnixStream>,
    keeping: Option<Keeping>,
    /// The program is to outlive its daemon.
    outlives: bool,
    /// Where the next daemon comes in; `None` while the program is not to outlive its daemon, or the disk has no room for it.
    doorway: Option<Doorway>,
    pipes: [KeptPipe; 2],
    /// Where the daemon writes the counts that the next one continues from; `None` for a program that no next daemon takes over.
    page: Option<KeptPage>,
    /// For the next daemon.
    note: Vec<u8>,
    frames: FrameReader,
    /// Readable when a child has ended.
    ends: SignalFd,
    identity: ProgramIdentity,
    leader: ShimProgram,
    may_leave_descendants: bool,
    /// The daemon has asked processes to end.
    is_stopping: bool,
    /// Everything is to die.
    is_killing: bool,
    /// When the wait for the killed is over; set once the leader has ended.
    deadline: Option<Instant>,
    /// How many descendants were killed.
    killed: u32,
    is_childless: bool,
    /// Rounds of KILL in a row after which no child ended.
    idle_rounds: u32,
    outcome: Option<EndReport>,
    is_reported: bool,
}

impl Shim {
    fn new(
        daemon: UnixStream,
        frames: FrameReader,
        ends: SignalFd,
        identity: ProgramIdentity,
        pipes: [PipeReader; 2],
        may_leave_descendants: bool,
    ) -> Self {
        let [stdout, stderr] = pipes;
        Self {
            daemon: Some(daemon),
            frames,
            ends,
            keeping: None,
            outlives: false,
            doorway: None,
            pipes: [KeptPipe::new(StreamName::Stdout, stdout), KeptPipe::new(StreamName::Stderr, stderr)],
            page: None,
            note: Vec::new(),
            identity,
            leader: ShimProgram::Running(identity.pid),
            may_leave_descendants,
            is_stopping: false,
            is_killing: false,
            deadline: None,
            killed: 0,
            is_childless: false,
            idle_rounds: 0,
            outcome: None,
            is_reported: false,
        }
    }

    /// Opens the door for the next daemon, unless it is open.
    fn keep(&mut self) {
        let keeping = self.keeping.as_ref().filter(|_| self.outlives && self.doorway.is_none());
        match keeping.map(Doorway::open) {
            Some(Ok(doorway)) => self.doorway = Some(doorway),
            Some(Err(error)) => {
                self.report(&ShimReport::Unkept { errno: error.raw_os_error().unwrap_or(Errno::EINVAL as i32) });
            }
            None => {}
        }
    }

    /// The first message to a daemon, with both pipes and the page.
    fn introduce(&mut self, report: &ShimReport, body: &[u8]) {
        let Some(daemon) = &self.daemon else { return };
        let descriptors: Vec<_> =
            self.pipes.iter().map(KeptPipe::descriptor).chain(self.page.iter().map(KeptPage::as_fd)).collect();
        if tell(daemon, report, body, &descriptors).is_err() {
            self.on_daemon_gone();
        }
    }

    /// Serves the daemon until nothing is left and the daemon knows it, or is gone.
    fn attend(mut self) -> io::Result<()> {
        loop {
            self.reap();
            if self.is_killing {
                self.kill_round();
            }
            self.report_end();
            if self.is_over() {
                return Ok(());
            }
            self.wait()?;
        }
    }

    fn reap(&mut self) {
        loop {
            let leader = match self.leader {
                ShimProgram::Running(pid) => Some(pid),
                ShimProgram::Ended { .. } => None,
            };
            match descent::next_ended(leader) {
                ChildNews::Ended(pid) if Some(pid) == leader => self.on_leader_ended(pid),
                ChildNews::Ended(pid) => {
                    let killed = ProcessEnd::Signaled { signal: llama_warden_events::Signal::KILL, core_dumped: false };
                    self.killed += u32::from(descent::reap(pid) == killed && self.is_killing);
                }
                ChildNews::Reaped(_) => {}
                ChildNews::NoneEnded => {
                    self.is_childless = false;
                    return;
                }
                ChildNews::NoChild => {
                    // A leader whose end the kernel's wrapper could not name was reaped among the others.
                    if leader.is_some() {
                        self.leader = ShimProgram::Ended { end: ProcessEnd::Unknown, control_groups: String::new() };
                    }
                    self.is_childless = true;
                    return;
                }
            }
        }
    }

    fn on_leader_ended(&mut self, pid: u32) {
        // The kernel knows the groups of a process until it is reaped.
        let control_groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        if !self.is_stopping && !self.may_leave_descendants {
            self.is_killing = true;
        }
        if self.is_killing {
            // In one call, which a fork bomb does not outrun.
            descent::kill_group(pid);
        }
        self.leader = ShimProgram::Ended { end: descent::reap(pid), control_groups };
    }

    fn kill_round(&mut self) {
        let leader = match self.leader {
            ShimProgram::Running(pid) => Some(pid),
            ShimProgram::Ended { .. } => {
                self.deadline.get_or_insert_with(|| Instant::now() + KILL_TIMEOUT);
                None
            }
        };
        if let Some(leader) = leader {
            descent::kill_group(leader);
        }
        if !self.is_childless {
            descent::kill_children(|pid| Some(pid) == leader);
        }
    }

    /// Reports the end of the program, when nothing is left below, or what is left cannot be killed.
    fn report_end(&mut self) {
        let ShimProgram::Ended { end, control_groups } = &self.leader else { return };
        let is_due = self.is_childless || self.is_late() || (self.may_leave_descendants && !self.is_killing);
        if self.outcome.is_none() && is_due {
            self.outcome = Some(self.count(*end, control_groups.clone()));
        }
        if let Some(outcome) = self.outcome.clone().filter(|_| !self.is_reported && self.daemon.is_some()) {
            self.is_reported = true;
            self.report(&ShimReport::Ended(outcome));
        }
    }

    fn count(&self, end: ProcessEnd, control_groups: String) -> EndReport {
        let left = if self.is_late() { descent::children() } else { Vec::new() };
        EndReport { end, killed: self.killed, left, control_groups }
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= Instant::now())
    }

    fn is_over(&self) -> bool {
        let is_unheard = self.daemon.is_none() && self.doorway.is_none();
        match self.leader {
            ShimProgram::Running(_) => false,
            // Descendants that the program has left live on while the daemon does.
            ShimProgram::Ended { .. } if self.may_leave_descendants && self.is_reported => {
                self.is_childless || self.is_late()
            }
            ShimProgram::Ended { .. } => is_unheard && (self.is_childless || self.is_late()),
        }
    }

    /// Waits for the end of a child, for a daemon, for output that no daemon reads, or for the next round.
    fn wait(&mut self) -> io::Result<()> {
        let is_alone = self.daemon.is_none();
        let is_waiting_for_ends = self.is_killing && !self.is_childless && !self.is_late();
        // What the kernel does not let die is asked more and more rarely.
        let round = (KILL_ROUND * (1 + self.idle_rounds)).min(MAX_KILL_ROUND);
        let pause = match is_waiting_for_ends {
            true => Some(round),
            false => (is_alone && self.doorway.is_some()).then_some(DOORWAY_LOOK),
        };
        let pause =
            pause.map(|pause| Timespec { tv_sec: pause.as_secs().cast_signed(), tv_nsec: pause.subsec_nanos().into() });
        let mut polled = vec![PollFd::new(&self.ends, PollFlags::IN)];
        polled.extend(self.daemon.iter().map(|daemon| PollFd::new(daemon, PollFlags::IN)));
        if is_alone {
            polled.extend(self.doorway.iter().map(|doorway| PollFd::new(doorway.socket(), PollFlags::IN)));
        }
        let first_pipe = polled.len();
        let drained: Vec<usize> = (0..self.pipes.len()).filter(|at| is_alone && self.pipes[*at].is_open()).collect();
        polled.extend(drained.iter().map(|at| PollFd::new(&self.pipes[*at].pipe, PollFlags::IN)));
        match poll(&mut polled, pause.as_ref()) {
            Ok(ready) => self.idle_rounds = if ready == 0 { self.idle_rounds.saturating_add(1) } else { 0 },
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_ready = |at: usize| polled.get(at).is_some_and(|file| !file.revents().is_empty());
        let is_spoken_to = first_pipe > 1 && is_ready(1);
        let full: Vec<usize> =
            (0..drained.len()).filter(|at| is_ready(first_pipe + at)).map(|at| drained[at]).collect();
        // Read away: the children tell which of them ended.
        while matches!(self.ends.read_signal(), Ok(Some(_))) {}
        for pipe in full {
            self.pipes[pipe].drain();
        }
        if is_alone && self.doorway.as_ref().is_some_and(|doorway| !doorway.is_reachable()) {
            // The state directory is gone: no daemon will ever come.
            (self.outlives, self.doorway) = (false, None);
            self.is_killing = true;
            return Ok(());
        }
        match is_spoken_to {
            true if is_alone => self.welcome(),
            true => self.hear(),
            false => {}
        }
        Ok(())
    }

    /// Hands everything over to the next daemon.
    fn welcome(&mut self) {
        let Some(daemon) = self.doorway.as_ref().and_then(Doorway::accept) else { return };
        // One that does not read must not hold up the program for ever.
        let _ = daemon.set_write_timeout(Some(HANDOVER_TIMEOUT));
        self.daemon = Some(daemon);
        self.frames = FrameReader::default();
        self.is_reported = false;
        let note = self.note.clone();
        self.introduce(&ShimReport::Held(self.identity), &note);
        for at in 0..self.pipes.len() {
            let (stream, (bytes, dropped)) = (self.pipes[at].stream, self.pipes[at].take());
            let report = ShimReport::Output { stream, dropped: dropped.bytes, dropped_lines: dropped.lines };
            let told = self.daemon.as_ref().map(|daemon| tell(daemon, &report, &bytes, &[]));
            if !matches!(told, Some(Ok(()))) {
                // For the one that comes next.
                self.pipes[at].put_back(&bytes, dropped);
                return self.on_daemon_gone();
            }
        }
    }

    fn hear(&mut self) {
        let Some(daemon) = &self.daemon else { return };
        match self.frames.receive(daemon) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
            Ok(1..) => {}
            Ok(0) | Err(_) => return self.on_daemon_gone(),
        }
        loop {
            match self.frames.next::<ShimOrder>() {
                Ok(Some(frame)) => self.obey(&frame.message, frame.body),
                Ok(None) => return,
                // Nobody can be understood any more.
                Err(_) => return self.on_daemon_gone(),
            }
        }
    }

    fn obey(&mut self, order: &ShimOrder, body: Vec<u8>) {
        match *order {
            // Only the first message runs a program.
            ShimOrder::Spawn(_) => {}
            ShimOrder::Signal { number } => {
                let leader = match self.leader {
                    ShimProgram::Running(pid) => Some(pid),
                    ShimProgram::Ended { .. } => None,
                };
                self.is_stopping |= number != Signal::SIGCONT as i32;
                if let Err(errno) = descent::signal_all(number, leader) {
                    self.report(&ShimReport::Undelivered { number, errno: errno as i32 });
                }
            }
            ShimOrder::Kill => self.is_killing = true,
            ShimOrder::Outlive(true) => {
                self.outlives = true;
                self.keep();
            }
            ShimOrder::Outlive(false) => (self.outlives, self.doorway) = (false, None),
            ShimOrder::Note => self.note.extend(body),
            ShimOrder::Unread { stream } => {
                self.pipes.iter_mut().filter(|pipe| pipe.stream == stream).for_each(|pipe| pipe.push(&body));
            }
            ShimOrder::Release => {
                (self.outlives, self.doorway) = (false, None);
                self.is_killing = true;
            }
        }
    }

    fn on_daemon_gone(&mut self) {
        self.daemon = None;
        // For one whose door could not be opened earlier.
        self.keep();
        // What was being stopped is not kept either.
        self.is_killing |= self.doorway.is_none() || self.is_stopping;
    }

    fn report(&mut self, report: &ShimReport) {
        if let Some(daemon) = &self.daemon
            && tell(daemon, report, &[], &[]).is_err()
        {
            self.on_daemon_gone();
        }
    }
}
