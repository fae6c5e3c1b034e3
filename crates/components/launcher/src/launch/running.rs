//! A launch whose process runs: reads its output, delivers signals and answers questions until the process has ended and is
//! reaped.
//!
//! One of these exists per running server, for months, so it stores nothing that can be recomputed, such as the selector of its
//! processes.
//!
//! The order at the end is fixed: the exit is seen, which comes once the shim has left nothing below it; the pipes are read to their
//! end or to a deadline; the exit is published.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use llama_warden_bus::{BusClosed, OutputKey};
use llama_warden_config::ServerSpec;
use llama_warden_events::{Event, ListenerOwner, ProcessEnd, Seq, Signal, StreamName, Warning};
use llama_warden_procfs::OomKills;
use llama_warden_support::{Redactor, blocking, fail_point};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::context::{EndedLaunch, Launch, SWEEP_TIMEOUT};
use super::held::READY;
use super::kill;
use super::orders::{LaunchOrder, ListenerInquiry, SignalOrder};
use super::totals_page::TotalsPage;
use crate::output::pipes::{OutputPiece, OutputPipe, ReadCancel, ServerOutput, UnreadOutput};
use llama_warden_processes::child_process::{ChildProcess, ProcessOutcome};
use llama_warden_processes::launch_tag::LaunchTag;
use llama_warden_processes::sweep::{self, Survivor};
use llama_warden_processes::{listener, server_address};

/// Time for the pipes to end after the exit. A process that cannot be killed may hold them open.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(250);

/// A process that runs its program, before it is published.
pub(crate) struct SpawnedServer {
    pub(crate) process: ChildProcess,
    pub(crate) output: OutputPipes,
    /// The kernel's kills for want of memory before this launch, less those that were explained then.
    pub(crate) oom_kills: OomKills,
}

/// A launch with its process and the task that reads its output.
pub(crate) struct RunningServer {
    launch: Launch,
    process: ChildProcess,
    reader: ReaderTask,
    /// The kernel's kills for want of memory before this launch, less those that were explained then.
    oom_kills: OomKills,
    /// The question that is being answered; the next one waits in the inbox.
    inquiry: Option<ListenerAnswer>,
}

/// Our ends of a process's pipes, and the secrets to replace in what they carry.
pub(crate) struct OutputPipes {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) redactor: Redactor,
    /// What was read before, and by somebody else: standard output, then standard error.
    pub(crate) missed: UnreadOutput,
}

/// The task that reads the output, and the means to end it early.
pub(crate) struct ReaderTask {
    reading: JoinHandle<UnreadOutput>,
    cancel: ReadCancel,
}

type ListenerAnswer = Pin<Box<dyn Future<Output = (ListenerOwner, Option<Seq>)> + Send>>;

/// Why a launch runs no more.
pub(crate) enum RunEnd {
    /// Its process has ended.
    Exited,
    /// Its process is left to the next daemon.
    Left,
    /// The bus is closed.
    Unheard,
}

/// Everything that wakes a running launch.
enum Wakeup {
    Exited,
    Ordered(LaunchOrder),
    Asked(ListenerInquiry),
    Answered(ListenerOwner, Option<Seq>),
}

impl RunningServer {
    /// Takes over a process that is published, and begins to read its output.
    pub(crate) fn new(launch: Launch, SpawnedServer { process, output, oom_kills }: SpawnedServer) -> Self {
        let totals = process.page().map(|page| TotalsPage::new(page, &launch));
        let reader = start_reading(&launch, output, totals);
        Self { launch, process, reader, oom_kills, inquiry: None }
    }

    /// Delivers signals and answers questions until the process has ended.
    pub(crate) async fn run(&mut self) -> RunEnd {
        self.run_until_end().await.unwrap_or(RunEnd::Unheard)
    }

    async fn run_until_end(&mut self) -> Result<RunEnd, BusClosed> {
        loop {
            match self.next_wakeup().await {
                Wakeup::Exited => return Ok(RunEnd::Exited),
                // Boxed: see `next_wakeup`.
                Wakeup::Ordered(LaunchOrder::Signal(order)) => Box::pin(self.deliver(order)).await?,
                Wakeup::Ordered(LaunchOrder::NoteReady) => {
                    self.process.note(READY);
                    self.store_totals();
                }
                Wakeup::Ordered(LaunchOrder::Leave) => return Ok(RunEnd::Left),
                Wakeup::Ordered(LaunchOrder::CallOff) => kill(&self.process),
                Wakeup::Asked(inquiry) => self.inquiry = Some(self.identify_listener(inquiry)),
                Wakeup::Answered(listener, cause) => {
                    self.inquiry = None;
                    let identified = Event::ListenerIdentified { listener };
                    Box::pin(self.launch.reporter.publish_because(identified, cause)).await?;
                }
            }
        }
    }

    /// Waits for the next wake-up. Polled by hand: `select!` would store the handlers' state in this long-lived future, whose
    /// size a test below limits.
    fn next_wakeup(&mut self) -> impl Future<Output = Wakeup> {
        let Self { launch, process, inquiry, .. } = self;
        let mut exited = process.exited();
        poll_fn(move |context| {
            // The exit first, because nothing matters after it; signals before questions, because a stop must not wait.
            if Pin::new(&mut exited).poll(context).is_ready() {
                return Poll::Ready(Wakeup::Exited);
            }
            if let Poll::Ready(order) = launch.inbox.poll_order(context) {
                return Poll::Ready(Wakeup::Ordered(order));
            }
            match inquiry {
                Some(answer) => answer.as_mut().poll(context).map(|(owner, cause)| Wakeup::Answered(owner, cause)),
                None => launch.inbox.poll_inquiry(context).map(Wakeup::Asked),
            }
        })
    }

    async fn deliver(&mut self, order: SignalOrder) -> Result<(), BusClosed> {
        let SignalOrder { signal, rung, cause } = order;
        let Self { process, launch: Launch { reporter, .. }, .. } = self;
        fail_point("signal-ordered");
        if let Err(error) = process.deliver(signal) {
            // Not fatal: the next rung of the ladder is KILL, which can always be sent.
            tracing::error!(server = %reporter.server, %error, "a signal was not delivered");
            return Ok(());
        }
        fail_point("signal-delivered");
        reporter.cause = cause;
        reporter.publish_acked(Event::SignalDelivered { signal, rung }).await?;
        fail_point("signal-published");
        self.store_totals();
        Ok(())
    }

    fn store_totals(&self) {
        if let Some(page) = self.process.page() {
            TotalsPage::new(page, &self.launch).store();
        }
    }

    /// Starts to find out which process listens on the server's address.
    fn identify_listener(&self, inquiry: ListenerInquiry) -> ListenerAnswer {
        let (server, tag) = (Arc::clone(&self.launch.server), self.launch.tag());
        let leader = self.process.pid();
        Box::pin(async move {
            let owner = blocking(move || listener_of(&server, leader, &tag)).await;
            let failed = |error| ListenerOwner::Unreadable { detail: format!("the search failed: {error}") };
            (owner.unwrap_or_else(failed), inquiry.cause)
        })
    }

    /// Cleans up after a process that has ended. If the bus is closed, the exit cannot be published, and dropping the process
    /// kills it.
    pub(crate) async fn conclude(self, end: RunEnd) -> EndedLaunch {
        let Self { launch, process, reader, oom_kills, .. } = self;
        match end {
            RunEnd::Exited => {}
            RunEnd::Left => {
                let [stdout, stderr] = reader.leave().await;
                fail_point("hand-over-output-taken");
                if let Err(error) = process.leave([&stdout, &stderr]).await {
                    tracing::error!(server = %launch.reporter.server, %error, "a server cannot be left to the next daemon; it ends");
                }
                fail_point("hand-over-launch-left");
                return launch.end_left();
            }
            RunEnd::Unheard => return launch.end_unheard(),
        }
        fail_point("exit-seen");
        let pid = process.pid();
        let ProcessOutcome { end, killed: mut swept, mut survivors, control_groups, is_lost } = process.outcome();
        if is_lost {
            tracing::warn!(pid, "the shim of a server was killed; what is left is found by tag and lock");
            let sweep = sweep::sweep(&launch.selector(), Instant::now() + SWEEP_TIMEOUT).await;
            (swept, survivors) = (sweep.killed, sweep.survivors);
        }
        let explained = launch.resources.oom_deaths.load(Ordering::Relaxed);
        let is_out_of_memory = OomKills::happened_in(&control_groups, oom_kills, explained);
        reader.finish().await;
        fail_point("exit-output-read");
        if !survivors.is_empty() {
            let detail = format!("{} outlived the server and cannot be killed", listed(&survivors));
            let warned = Event::ServerWarned { warning: Warning::DescendantLeft, detail };
            if launch.reporter.publish(warned).await.is_err() {
                return launch.end_unheard();
            }
        }
        let was_killed = match end {
            ProcessEnd::Signaled { signal, .. } => signal == Signal::KILL,
            // A shell says so of the program that it waited for.
            ProcessEnd::Exited { code } => code == 137,
            ProcessEnd::OutOfMemory | ProcessEnd::Unknown => false,
        };
        if is_out_of_memory && was_killed {
            launch.resources.oom_deaths.fetch_add(1, Ordering::Relaxed);
            return launch.end(Event::ServerExited { end: ProcessEnd::OutOfMemory, swept });
        }
        launch.end(Event::ServerExited { end, swept })
    }
}

/// Reads the output in a task of its own, which waits for nothing but the pipes: a server whose pipe is full stops answering.
fn start_reading(launch: &Launch, output: OutputPipes, totals: Option<TotalsPage>) -> ReaderTask {
    let OutputPipes { stdout, stderr, redactor, missed } = output;
    let totals = totals.map(Arc::new);
    // Both sinks are open before either pipe is read: the tap of one stream may expect the other.
    let pipes = [(StreamName::Stdout, stdout), (StreamName::Stderr, stderr)].map(|(stream, pipe)| {
        let (server, incarnation) = (launch.reporter.server.clone(), launch.reporter.incarnation);
        let key = OutputKey { server, incarnation, stream };
        let mut sink = launch.resources.lane.open(&key, launch.server.log_ring_bytes);
        let totals = totals.clone();
        OutputPipe::new(stream, pipe, move |piece: OutputPiece<'_>| match piece {
            OutputPiece::Line(at, line) => sink.push(at, line),
            OutputPiece::PartialLine => sink.note_activity(),
            OutputPiece::Pause => {
                sink.note_pause();
                totals.iter().for_each(|totals| totals.store_output());
            }
        })
    });
    let (cancel, cancelled) = oneshot::channel();
    let mut output = ServerOutput::new(pipes, redactor);
    output.begin_with(missed.each_ref().map(Vec::as_slice));
    totals.iter().for_each(|totals| totals.store());
    let reading = tokio::spawn(output.read(cancelled));
    ReaderTask { reading, cancel }
}

/// The process that listens on the address of `server`. Blocks on `/proc` and perhaps on a name server.
fn listener_of(server: &ServerSpec, leader: u32, tag: &LaunchTag) -> ListenerOwner {
    match server_address::resolve(&server.host, server.port) {
        Ok(entries) => {
            let addresses: Vec<_> = entries.into_iter().flat_map(|entry| entry.addresses).collect();
            listener::identify(&addresses, leader, tag)
        }
        Err((host, error)) => ListenerOwner::Unreadable { detail: format!("cannot resolve `{host}`: {error}") },
    }
}

impl ReaderTask {
    /// Ends the reading where another reader goes on, and returns what that one has to begin with.
    async fn leave(self) -> UnreadOutput {
        // An error means that both pipes are read to their end.
        let _ = self.cancel.send(());
        self.reading.await.unwrap_or_default()
    }

    /// Lets the reading end by itself, or ends it.
    async fn finish(self) {
        let Self { mut reading, cancel } = self;
        if timeout(DRAIN_TIMEOUT, &mut reading).await.is_err() {
            drop(cancel);
            // An error is a panic of the reader, which the panic hook has logged.
            let _ = reading.await;
        }
    }
}

/// The survivors as a list in words.
pub(crate) fn listed(survivors: &[Survivor]) -> String {
    survivors.iter().map(Survivor::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    /// A launch lives for months, and there may be hundreds: with what the runtime adds, these take three lines of its
    /// allocator's 128 bytes each. A build that is not optimized keeps a word more.
    #[test]
    fn what_a_launch_keeps_while_its_server_runs_is_small() {
        assert!(size(Launch::run) <= 288, "{}", size(Launch::run));
        let reading = size(ServerOutput::<Box<dyn FnMut(OutputPiece<'_>)>>::read);
        assert!(reading <= 240, "{reading} beside the sinks");
    }
}
