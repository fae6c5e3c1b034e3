//! A program that a shim runs, as the daemon knows it: through a socket to the shim.
//!
//! The shim alone signals and reaps. Dropping a [`ChildProcess`] kills the program and everything below it: no process outlives a
//! cancelled task.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use llama_warden_events::{ProcessEnd, Signal, StreamName};
use nix::errno::Errno;
use nix::sys::signal;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::kept_page::KeptPage;
use super::sweep::Survivor;
use super::wire::{self, EndReport, FrameReader, ProgramIdentity, ShimOrder, ShimReport};

/// A program that runs, or whose end nobody has taken yet. Boxed, because a launch lives for months in a small future.
#[derive(Debug)]
pub struct ChildProcess(Box<Attended>);

#[derive(Debug)]
struct Attended {
    shim: UnixStream,
    frames: FrameReader,
    identity: ProgramIdentity,
    page: Option<Arc<KeptPage>>,
    end: Option<ProcessOutcome>,
    /// The shim is to keep the program for the next daemon.
    is_left: bool,
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

/// How a program ended, and what became of the processes below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessOutcome {
    /// How the program ended; [`ProcessEnd::Unknown`] if its shim was killed.
    pub end: ProcessEnd,
    /// Number of its descendants that were killed.
    pub killed: u32,
    /// Descendants that cannot be killed.
    pub survivors: Vec<Survivor>,
    /// The control groups that it was in at its end, as `/proc/PID/cgroup` shows them.
    pub control_groups: String,
    /// The shim ended first, so that it is not known which processes are left.
    pub is_lost: bool,
}

/// A signal that was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The kernel's wrapper has no name for it.
    #[error("signal {0} has no name that the kernel's wrapper takes")]
    Unnamed(Signal),
    /// The shim did not take it.
    #[error("cannot send {signal} to process {pid}: {source}")]
    Refused {
        /// The signal.
        signal: Signal,
        /// The process.
        pid: u32,
        /// The error of the kernel.
        source: io::Error,
    },
}

/// What a shim says to the order to run a program.
#[derive(Debug)]
pub(crate) enum ShimAnswer {
    Runs(Spawned),
    Refused(io::Error),
    /// It has ended without an answer.
    Lost,
}

impl ChildProcess {
    /// Has a shim run a program; `rest` is what it has not taken of its order yet.
    pub(crate) async fn run(mut shim: UnixStream, rest: &[u8]) -> io::Result<ShimAnswer> {
        match shim.write_all(rest).await {
            // It has ended, and may have said why: the guardian answers for a shim that it cannot fork.
            Err(error) if is_end(&error) => {}
            written => written?,
        }
        let mut frames = FrameReader::default();
        let frame = loop {
            match frames.next::<ShimReport>()? {
                Some(frame) => break frame,
                None => match poll_fn(|context| poll_receive(&shim, &mut frames, context)).await {
                    Ok(true) => {}
                    Err(error) if !is_end(&error) => return Err(error),
                    _ => return Ok(ShimAnswer::Lost),
                },
            }
        };
        let mut descriptors = frame.descriptors.into_iter();
        Ok(match (frame.message, descriptors.next(), descriptors.next()) {
            (ShimReport::Spawned(identity), Some(stdout), Some(stderr)) => {
                let process = Self::attended(shim, frames, identity, descriptors.next());
                ShimAnswer::Runs(Spawned { process, stdout, stderr })
            }
            (ShimReport::Refused { errno }, ..) => ShimAnswer::Refused(io::Error::from_raw_os_error(errno)),
            // Without its pipes, because this process has no descriptors left, it is killed as the socket is dropped.
            (ShimReport::Spawned(_), ..) => ShimAnswer::Refused(Errno::EMFILE.into()),
            (other, ..) => {
                ShimAnswer::Refused(io::Error::other(format!("a shim that was to run a program said {other:?}")))
            }
        })
    }

    /// A program that its shim has run, or hands over.
    pub(crate) fn attended(
        shim: UnixStream,
        frames: FrameReader,
        identity: ProgramIdentity,
        page: Option<OwnedFd>,
    ) -> Self {
        let page = page.map(|page| Arc::new(page.into()));
        Self(Box::new(Attended { shim, frames, identity, page, end: None, is_left: false }))
    }

    /// Where to write the counts that the next daemon continues from; `None` for a program that no daemon takes over, and where the
    /// kernel gives no page.
    pub fn page(&self) -> Option<&Arc<KeptPage>> {
        self.0.page.as_ref()
    }

    /// Adds to the note about the program that the next daemon reads.
    pub fn note(&self, note: &[u8]) {
        // An error means that the shim has ended, which is seen elsewhere.
        let _ = self.0.tell(&ShimOrder::Note, note);
    }

    /// Decides whether the program outlives the daemon, however that ends.
    pub fn outlive(&self, outlives: bool) {
        // An error means that the shim has ended, which is seen elsewhere.
        let _ = self.0.tell(&ShimOrder::Outlive(outlives), &[]);
    }

    /// Leaves the program to the next daemon, and returns once its shim waits for that one: a daemon that comes before would not find it.
    /// `unread` is what was read from its standard output and its standard error and is no whole line.
    ///
    /// # Errors
    /// If the shim does not take the order: it kills the program then.
    pub async fn leave(mut self, unread: [&[u8]; 2]) -> io::Result<()> {
        for (stream, bytes) in [StreamName::Stdout, StreamName::Stderr].into_iter().zip(unread) {
            self.0.tell(&ShimOrder::Unread { stream }, bytes)?;
        }
        self.0.tell(&ShimOrder::Outlive(true), &[])?;
        self.0.is_left = true;
        // For the shim, this daemon is gone behind its last order. It hangs up then.
        self.0.shim.shutdown().await?;
        while poll_fn(|context| self.0.poll_more(context)).await? {
            while let Some(frame) = self.0.frames.next()? {
                self.0.take(frame.message);
            }
        }
        Ok(())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.identity.pid
    }

    /// The start time in clock ticks since the machine booted; 0 if `/proc` cannot be read.
    pub fn start_ticks(&self) -> u64 {
        self.0.identity.start_ticks
    }

    /// Sends `signal` to the program and to everything below it. KILL kills all of them, until none is left.
    ///
    /// # Errors
    /// If the signal has no name, or the shim has ended.
    pub fn deliver(&self, signal: Signal) -> Result<(), SignalError> {
        let number = signal.number();
        signal::Signal::try_from(number).map_err(|_| SignalError::Unnamed(signal))?;
        let order = if signal == Signal::KILL { ShimOrder::Kill } else { ShimOrder::Signal { number } };
        self.0.tell(&order, &[]).map_err(|source| SignalError::Refused { signal, pid: self.pid(), source })
    }

    /// Completes once the program has ended and nothing is left below it that can be killed. Safe to cancel. Polled by hand to stay
    /// small, since it is awaited for months.
    pub fn exited(&mut self) -> impl Future<Output = ()> + Unpin {
        poll_fn(|context| self.0.poll_end(context))
    }

    /// How a program that has [exited](Self::exited) ended.
    pub fn end(&self) -> ProcessEnd {
        self.0.end.as_ref().map_or(ProcessEnd::Unknown, |outcome| outcome.end)
    }

    /// Lets what an exited program has left behind run on, until it ends by itself or this future is dropped.
    pub async fn all_exited(mut self) {
        // Nothing more is said: the shim ends when nothing is left below it.
        while let Ok(true) = poll_fn(|context| self.0.poll_more(context)).await {}
    }

    /// Takes the end of a program that has [exited](Self::exited).
    pub fn outcome(mut self) -> ProcessOutcome {
        self.0.end.take().unwrap_or_else(ProcessOutcome::lost)
    }
}

impl ProcessOutcome {
    fn lost() -> Self {
        let (end, control_groups) = (ProcessEnd::Unknown, String::new());
        Self { end, killed: 0, survivors: Vec::new(), control_groups, is_lost: true }
    }
}

impl Attended {
    fn tell(&self, order: &ShimOrder, body: &[u8]) -> io::Result<()> {
        // Orders are short and few, and the shim reads each at once: they always fit into the buffer of the socket.
        let bytes = wire::encode(order, body)?;
        match wire::send(&self.shim, &bytes, &[])? {
            sent if sent == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while self.end.is_none() {
            match self.frames.next::<ShimReport>() {
                Ok(Some(frame)) => self.take(frame.message),
                Ok(None) => match ready!(poll_receive(&self.shim, &mut self.frames, context)) {
                    Ok(true) => {}
                    Ok(false) => self.end = Some(ProcessOutcome::lost()),
                    Err(error) => self.give_up(&error),
                },
                Err(error) => self.give_up(&error),
            }
        }
        Poll::Ready(())
    }

    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        poll_receive(&self.shim, &mut self.frames, context)
    }

    fn take(&mut self, report: ShimReport) {
        match report {
            ShimReport::Ended(EndReport { end, killed, left, control_groups }) => {
                let survivors = left.into_iter().map(Survivor::Process).collect();
                self.end = Some(ProcessOutcome { end, killed, survivors, control_groups, is_lost: false });
            }
            ShimReport::Undelivered { number, errno } => {
                let (pid, error) = (self.identity.pid, io::Error::from_raw_os_error(errno));
                tracing::error!(pid, signal = number, %error, "a signal was not delivered to every process of a launch");
            }
            ShimReport::Unkept { errno } => {
                let (pid, error) = (self.identity.pid, io::Error::from_raw_os_error(errno));
                tracing::warn!(pid, %error, "a server would not outlive the daemon now: its shim cannot make a socket in the state directory");
            }
            // Said once, and heard.
            ShimReport::Spawned(_) | ShimReport::Held(_) | ShimReport::Output { .. } | ShimReport::Refused { .. } => {}
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        tracing::error!(pid = self.identity.pid, %error, "a shim cannot be heard any more; its program is killed");
        self.end = Some(ProcessOutcome::lost());
    }
}

impl Drop for Attended {
    fn drop(&mut self) {
        if !self.is_left {
            // An error means that it has ended. The end of the socket says the same, unless the program outlives the daemon.
            let _ = self.tell(&ShimOrder::Release, &[]);
        }
    }
}

/// Receives once; `false` at the end of the stream.
pub(crate) fn poll_receive(
    shim: &UnixStream,
    frames: &mut FrameReader,
    context: &mut Context<'_>,
) -> Poll<io::Result<bool>> {
    loop {
        ready!(shim.poll_read_ready(context))?;
        match shim.try_io(Interest::READABLE, || frames.receive(shim)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if is_end(&error) => return Poll::Ready(Ok(false)),
            received => return Poll::Ready(received.map(|bytes| bytes > 0)),
        }
    }
}

/// The other end is closed, perhaps with bytes of ours in it.
pub(crate) fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
