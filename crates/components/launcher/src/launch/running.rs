//! A launch whose process runs: its output is read, signals are delivered, questions answered, until it has ended and is reaped.
//!
//! It lives for months, and there may be hundreds, so that it keeps no more than that takes: what can be made again, such as
//! the selector of its processes, is made when it is needed.
//!
//! The order at the end is fixed: exit seen, group and tag swept, pipes read to their end or to a deadline, status
//! taken. The zombie holds its process-group id until then, so that every signal reaches our processes or nobody.

use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use llama_warden_bus::{BusClosed, OutputKey};
use llama_warden_events::{Event, ListenerOwner, ProcessEnd, Seq, Signal, StreamName, Warning};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::context::{EndedLaunch, Launch, SWEEP_TIMEOUT};
use super::orders::{LaunchOrder, ListenerInquiry, SignalOrder};
use crate::output::lines::Redactor;
use crate::output::pipes::{OutputPipe, ReadCancel, ServerOutput};
use crate::process::child_process::ChildProcess;
use crate::process::sweep::{ProcessSelector, Survivor};

/// Time for the pipes to end once nobody is left: somebody who cannot be found may hold them.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(250);

/// See the module.
pub(crate) struct RunningServer {
    launch: Launch,
    process: ChildProcess,
    reader: ReaderTask,
    /// The question that is being answered.
    inquiry: Option<AnsweredInquiry>,
}

/// Our ends of a process's pipes, with what is replaced in them.
pub(crate) struct OutputPipes {
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) redactor: Redactor,
}

/// What is known when a process is gone.
pub(crate) struct FinishedProcess {
    pub(crate) end: ProcessEnd,
    pub(crate) swept: u32,
    pub(crate) survivors: Vec<Survivor>,
}

type AnsweredInquiry = Pin<Box<dyn Future<Output = (ListenerOwner, Option<Seq>)> + Send>>;

/// What a running launch is woken by.
enum Wakeup {
    Exited(io::Result<()>),
    LaunchOrder(LaunchOrder),
    Asked(ListenerInquiry),
    Answered(ListenerOwner, Option<Seq>),
}

/// The task that reads the output, and the way to end it.
pub(crate) struct ReaderTask {
    reading: JoinHandle<()>,
    give_up: ReadCancel,
}

impl RunningServer {
    /// Takes charge of a process that all know of, and begins to read its output.
    pub(crate) fn new(launch: Launch, process: ChildProcess, output: OutputPipes) -> Self {
        let reader = read(&launch, output);
        Self { launch, process, reader, inquiry: None }
    }

    /// Delivers signals and answers questions until the process has ended.
    pub(crate) async fn run_until_exit(&mut self) -> Result<(), BusClosed> {
        loop {
            match self.next_wakeup().await {
                Wakeup::Exited(exited) => {
                    if let Err(error) = exited {
                        let pid = self.process.pid();
                        tracing::error!(pid, %error, "an exit cannot be awaited; the server is killed");
                        kill(&self.process);
                    }
                    return Ok(());
                }
                Wakeup::LaunchOrder(LaunchOrder::Signal(order)) => Box::pin(self.deliver(order)).await?,
                Wakeup::LaunchOrder(LaunchOrder::CallOff) => kill(&self.process),
                Wakeup::Asked(inquiry) => self.inquiry = Some(self.inquire(inquiry)),
                Wakeup::Answered(listener, cause) => {
                    self.inquiry = None;
                    let identified = Event::ListenerIdentified { listener };
                    Box::pin(self.launch.reporter.publish_because(identified, cause)).await?;
                }
            }
        }
    }

    /// The next thing to be done. Polled by hand, since it is awaited for months: a select keeps room for what it does then.
    /// In this order, since nothing matters after an exit, and signals go before questions.
    fn next_wakeup(&mut self) -> impl Future<Output = Wakeup> {
        let Self { launch, process, inquiry, .. } = self;
        let mut exited = process.exited();
        poll_fn(move |context| {
            if let Poll::Ready(exited) = Pin::new(&mut exited).poll(context) {
                return Poll::Ready(Wakeup::Exited(exited));
            }
            if let Poll::Ready(order) = launch.inbox.poll_order(context) {
                return Poll::Ready(Wakeup::LaunchOrder(order));
            }
            match inquiry {
                Some(answered) => {
                    answered.as_mut().poll(context).map(|(listener, cause)| Wakeup::Answered(listener, cause))
                }
                None => launch.inbox.poll_inquiry(context).map(Wakeup::Asked),
            }
        })
    }

    async fn deliver(&mut self, order: SignalOrder) -> Result<(), BusClosed> {
        let SignalOrder { signal, rung, cause } = order;
        let Self { process, launch: Launch { reporter, .. }, .. } = self;
        if let Err(error) = process.deliver(signal) {
            // The next rung of the ladder is KILL, which always has a name.
            tracing::error!(server = %reporter.server, %error, "a signal was not delivered");
            return Ok(());
        }
        let draft = reporter.draft(Event::SignalDelivered { signal, rung }).because(cause);
        reporter.cause = Some(reporter.events.publish_acked(draft).await?);
        Ok(())
    }

    /// Finds out who listens where the server should.
    fn inquire(&self, inquiry: ListenerInquiry) -> AnsweredInquiry {
        let Self { launch, process, .. } = self;
        let (server, resources, tag) = (Arc::clone(&launch.server), Arc::clone(&launch.resources), launch.tag());
        let leader = process.pid();
        Box::pin(async move { (resources.who_listens(server, leader, tag).await, inquiry.cause) })
    }

    /// Cleans up after a process that has ended, unless nobody hears of it.
    pub(crate) async fn conclude(self, attended: Result<(), BusClosed>) -> EndedLaunch {
        let Self { launch, process, reader, .. } = self;
        if attended.is_err() {
            return launch.end_unheard();
        }
        let FinishedProcess { end, swept, survivors } = sweep_and_reap(process, launch.selector(), Some(reader)).await;
        if !survivors.is_empty() {
            let detail = format!("{} outlived the server and cannot be killed", listed(&survivors));
            let warned = Event::ServerWarned { warning: Warning::DescendantLeft, detail };
            if launch.reporter.publish(warned).await.is_err() {
                return launch.end_unheard();
            }
        }
        launch.over(Event::ServerExited { end, swept })
    }
}

/// Begins to read the output, in a task of its own: it waits for nothing but the pipes.
fn read(launch: &Launch, output: OutputPipes) -> ReaderTask {
    let OutputPipes { stdout, stderr, redactor } = output;
    // Both are open before either is read: a tap of one stream may count on the other's.
    let pipes = [(StreamName::Stdout, stdout), (StreamName::Stderr, stderr)].map(|(stream, pipe)| {
        let (server, incarnation) = (launch.reporter.server.clone(), launch.reporter.incarnation);
        let mut sink =
            launch.resources.lane.open(&OutputKey { server, incarnation, stream }, launch.server.log_ring_bytes);
        OutputPipe::new(stream, pipe, move |line: &[u8]| sink.push(line))
    });
    let (give_up, given_up) = oneshot::channel();
    let reading = tokio::spawn(ServerOutput::new(pipes, redactor).read(given_up));
    ReaderTask { reading, give_up }
}

impl FinishedProcess {
    /// The last event of a launch that `signal` called off before its program ran.
    pub(crate) fn map_end(self, signal: Signal) -> Event {
        Event::ServerExited { end: ProcessEnd::Signaled { signal, core_dumped: false }, swept: self.swept }
    }
}

/// Sweeps what outlived the process, lets its reader come to the end, reaps.
pub(crate) async fn sweep_and_reap(
    process: ChildProcess,
    selector: ProcessSelector,
    reader: Option<ReaderTask>,
) -> FinishedProcess {
    if let Err(error) = process.exited().await {
        tracing::error!(pid = process.pid(), %error, "an exit cannot be awaited");
    }
    let sweep = process.sweep(selector, Instant::now() + SWEEP_TIMEOUT).await;
    if let Some(ReaderTask { mut reading, give_up }) = reader
        && timeout(DRAIN_TIMEOUT, &mut reading).await.is_err()
    {
        drop(give_up);
        // A reader that panicked has ended too, and the panic was told.
        let _ = reading.await;
    }
    FinishedProcess { end: process.reap(), swept: sweep.killed, survivors: sweep.survivors }
}

/// Kills a process that is in the way.
pub(crate) fn kill(process: &ChildProcess) {
    if let Err(error) = process.deliver(Signal::KILL) {
        tracing::error!(pid = process.pid(), %error, "a process cannot be killed");
    }
}

/// Who is left, for people.
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
        assert!(size(Launch::run) <= 280, "{}", size(Launch::run));
        let reading = size(ServerOutput::<Box<dyn FnMut(&[u8])>>::read);
        assert!(reading <= 240, "{reading} beside the sinks");
    }
}
