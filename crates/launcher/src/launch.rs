//! One launch, from the first look to the reaped process. The one task that signals and reaps its child.
//!
//! The order at the end is fixed: exit seen, group and marker swept, pipes read to their end or to a deadline, status
//! taken. The zombie holds its process-group id until then, so that every signal reaches our processes or nobody.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::{BusClosed, CommandSender, Fact, OutputKey, OutputLane, Publisher, Turns};
use llama_warden_config::ServerSpec;
use llama_warden_events::{
    BootId, Event, FailureReason, HookOutcome, Incarnation, ListenerOwner, ProcessEnd, Seq, ServerId, Signal,
    StreamName, Warning,
};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::address;
use crate::dialect_shelf::DialectShelf;
use crate::environment::Marker;
use crate::failure::LaunchFailure;
use crate::identify::BinaryCache;
use crate::lines::Redactor;
use crate::listener;
use crate::lock::InstanceLock;
use crate::mailbox::{ListenerInquiry, Mailbox, SignalOrder};
use crate::pipes::{read_bounded, read_lines};
use crate::pre_start;
use crate::prepare::{NotPrepared, Prepared, prepare};
use crate::process::Process;
use crate::spawner::{ShimProgram, SpawnRequest, Spawner};
use crate::sweep::{Left, Traces, sweep};

/// Time to kill what outlived the server.
const SWEEP_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for the pipes to end after that: somebody who cannot be found may hold them.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(250);
/// Bytes of an errno on the shim's pipe.
const ERRNO_BYTES: u64 = 4;

/// What all launches share.
#[derive(Debug)]
pub(crate) struct Resources {
    pub(crate) boot: BootId,
    pub(crate) lane: OutputLane,
    pub(crate) commands: CommandSender,
    pub(crate) spawner: Spawner,
    pub(crate) shim: ShimProgram,
    pub(crate) binaries: BinaryCache,
    pub(crate) dialects: DialectShelf,
    /// What children may inherit from.
    pub(crate) environment: Vec<(OsString, OsString)>,
    /// Where the locks of servers are; `None` has none.
    pub(crate) state_dir: Option<PathBuf>,
    /// The turns of looks at files and processes.
    pub(crate) looks: Turns,
}

impl Resources {
    /// Looks at files or processes, off the runtime's thread, when its turn comes.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let _turn = self.looks.take().await;
        tokio::task::spawn_blocking(look).await
    }

    /// Who listens where `server` should.
    async fn who_listens(&self, server: Arc<ServerSpec>, leader: u32, marker: Marker) -> ListenerOwner {
        let looked = self.look(move || who_listens(&server, leader, &marker)).await;
        looked.unwrap_or_else(|error| ListenerOwner::Unreadable { detail: format!("the look has failed: {error}") })
    }
}

/// Publishes facts about one launch.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    pub(crate) facts: Publisher,
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) cause: Option<Seq>,
}

impl Reporter {
    pub(crate) fn fact(&self, event: Event) -> Fact {
        Fact::incarnation(self.server.clone(), self.incarnation, event).because(self.cause)
    }

    pub(crate) async fn publish(&self, event: Event) -> Result<(), BusClosed> {
        self.facts.publish(self.fact(event)).await
    }

    async fn publish_acked(&self, event: Event) -> Result<Seq, BusClosed> {
        self.facts.publish_acked(self.fact(event)).await
    }
}

/// A launch and the orders that come for it.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) server: Arc<ServerSpec>,
    /// A server that is launched and listens in the same place, or will.
    pub(crate) rival: Option<ServerId>,
    pub(crate) reporter: Reporter,
    pub(crate) resources: Arc<Resources>,
    /// Tells how the `pre-start` command ended, for a server that has one.
    pub(crate) pre_start: Option<oneshot::Receiver<HookOutcome>>,
    pub(crate) mailbox: Mailbox,
    pub(crate) cancel: CancellationToken,
}

/// How a launch ended: its last fact is published when the next launch may begin.
#[derive(Debug)]
pub(crate) struct Over {
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) last: Fact,
}

/// What is left of a spawned process once it runs its program.
struct Running {
    process: Process,
    marker: Marker,
    stdout: OwnedFd,
    stderr: OwnedFd,
    redactor: Redactor,
}

impl Launch {
    /// Runs the launch to its end.
    pub(crate) async fn run(mut self) -> Over {
        // Boxed, as everything that is over soon: a future is as large as its largest part, and this one lives for months.
        let last = match Box::pin(self.begin()).await {
            Ok(Ok(running)) => self.attend(running).await,
            Ok(Err(last)) => Ok(last),
            Err(closed) => Err(closed),
        };
        let last = match last {
            Ok(last) => last,
            // Nobody hears what happens any more; the process, if there was one, was killed when it was dropped.
            Err(BusClosed) => Event::ServerExited { end: ProcessEnd::Unknown, swept: 0 },
        };
        let Reporter { server, incarnation, .. } = self.reporter.clone();
        Over { server, incarnation, last: self.reporter.fact(last) }
    }

    /// Everything until the process is known to all; the inner error is the launch's last fact.
    async fn begin(&mut self) -> Result<Result<Running, Event>, BusClosed> {
        let began = Event::LaunchBegan { binary: self.server.binary.to_path_buf() };
        self.reporter.cause = Some(self.reporter.publish_acked(began).await?);
        if let Some(rival) = &self.rival {
            let detail = format!("server {rival} listens on the same port; give this server another `port`");
            return Ok(Err(failed(LaunchFailure::new(FailureReason::PortInUse, detail))));
        }
        let marker = Marker::new(&self.resources.boot, &self.reporter.server, self.reporter.incarnation);
        let (server, resources, reporter) = (&self.server, &self.resources, &self.reporter);
        let pre_start = self.pre_start.take();
        let prepared = async {
            // Before the first look, since it may make what is looked at: fetch the model, mount its disk.
            if let Some(ended) = pre_start {
                pre_start::run(&resources.commands, reporter, ended).await?;
            }
            prepare(server, &marker, resources, reporter).await
        };
        let prepared = tokio::select! {
            prepared = prepared => prepared,
            signal = called_off(&self.mailbox, &self.cancel) => return Ok(Err(exited_by(signal))),
        };
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(NotPrepared::Failed(failure)) => return Ok(Err(failed(failure))),
            Err(NotPrepared::Unheard) => return Err(BusClosed),
        };
        let argv = prepared.line.redacted().into();
        let running = match self.spawn(prepared, marker).await {
            Ok(running) => running,
            Err(last) => return Ok(Err(last)),
        };
        let spawned = Event::ServerSpawned {
            pid: running.process.pid(),
            start_ticks: running.process.start_ticks(),
            argv,
            port: self.server.port,
        };
        // Acknowledged, so that nothing that a line leads to can come before it.
        self.reporter.cause = Some(self.reporter.publish_acked(spawned).await?);
        Ok(Ok(running))
    }

    /// Makes the process and waits until it runs its program; the error is the launch's last fact.
    async fn spawn(&self, prepared: Prepared, marker: Marker) -> Result<Running, Event> {
        let Prepared { line, environment, redactor } = prepared;
        let program = line.program.clone();
        let failure = |error: &io::Error| failed(LaunchFailure::spawn(&program, error));
        let lock = self.lock().await.map_err(failed)?;
        let request = SpawnRequest {
            shim: self.resources.shim.clone(),
            program: line.program,
            arguments: line.arguments,
            environment,
            lock: lock.as_ref().map(|lock| lock.path().to_owned()),
        };
        let spawner = &self.resources.spawner;
        let spawned = spawner.spawn(request).await.map_err(|error| failure(&error))?;
        let traces = Traces { marker: Some(marker.clone()), lock, group: None };
        let process = Process::new(spawner, spawned.child, traces).map_err(|error| failure(&error))?;
        if let Some(exec_errors) = spawned.exec_errors {
            let confirmed = tokio::select! {
                confirmed = read_errno(exec_errors) => confirmed,
                signal = called_off(&self.mailbox, &self.cancel) => {
                    // The shim would only be in the way of the signal's meaning: nothing runs yet.
                    kill(&process);
                    return Err(finish(process, JoinSet::new(), CancellationToken::new()).await.map_end(signal));
                }
            };
            if let Err(error) = confirmed {
                kill(&process);
                finish(process, JoinSet::new(), CancellationToken::new()).await;
                return Err(failure(&error));
            }
        }
        Ok(Running { process, marker, stdout: spawned.stdout, stderr: spawned.stderr, redactor })
    }

    /// The lock that the launch is to hold. Who is left of an earlier launch and still holds it is killed first; beside one
    /// that cannot be, nothing is started.
    async fn lock(&self) -> Result<Option<InstanceLock>, LaunchFailure> {
        let Some(state_dir) = self.resources.state_dir.clone() else { return Ok(None) };
        let (folder, server) = (state_dir.clone(), self.reporter.server.clone());
        let make = move || InstanceLock::of(&folder, &server).map(|lock| (lock.is_held(), lock));
        let made = self.resources.look(make).await.unwrap_or_else(|error| Err(error.into()));
        let (is_held, lock) = made.map_err(|error| {
            let detail = format!("cannot make a lock in the state directory {}: {error}", state_dir.display());
            LaunchFailure::new(FailureReason::SpawnFailed, detail)
        })?;
        if is_held {
            let holders = Traces { lock: Some(lock.clone()), ..Traces::default() };
            let left = sweep(&holders, Instant::now() + SWEEP_TIMEOUT).await.left;
            if !left.is_empty() {
                let detail = format!("{} of an earlier launch is still there and cannot be killed", listed(&left));
                return Err(LaunchFailure::new(FailureReason::Unkillable, detail));
            }
        }
        Ok(Some(lock))
    }

    /// Reads the output, delivers signals and answers questions until the process has ended; then cleans up.
    async fn attend(&mut self, running: Running) -> Result<Event, BusClosed> {
        let Running { process, marker, stdout, stderr, redactor } = running;
        let give_up = CancellationToken::new();
        let mut readers = JoinSet::new();
        let redactor = Arc::new(redactor);
        // Both are open before either is read: a tap of one stream may count on the other's.
        let opened = [(StreamName::Stdout, stdout), (StreamName::Stderr, stderr)].map(|(stream, pipe)| {
            let (server, incarnation) = (self.reporter.server.clone(), self.reporter.incarnation);
            let key = OutputKey { server, incarnation, stream };
            (stream, pipe, self.resources.lane.open(&key, self.server.log_ring_bytes))
        });
        for (stream, pipe, mut sink) in opened {
            let (redactor, give_up) = (Arc::clone(&redactor), give_up.clone());
            readers.spawn(async move {
                if let Err(error) = read_lines(pipe, &redactor, &give_up, |line| sink.push(line)).await {
                    tracing::warn!(%stream, %error, "the output of a server cannot be read");
                }
            });
        }
        let mut inquiry: JoinSet<(ListenerOwner, Option<Seq>)> = JoinSet::new();
        let mut is_cancelled = false;
        loop {
            tokio::select! {
                exited = process.exited() => {
                    if let Err(error) = exited {
                        tracing::error!(pid = process.pid(), %error, "an exit cannot be awaited; the server is killed");
                        kill(&process);
                    }
                    break;
                }
                order = self.mailbox.next_signal() => Box::pin(self.deliver(&process, order)).await?,
                ListenerInquiry { cause } = self.mailbox.next_inquiry(), if inquiry.is_empty() => {
                    let (server, marker, leader) = (Arc::clone(&self.server), marker.clone(), process.pid());
                    let resources = Arc::clone(&self.resources);
                    inquiry.spawn(async move { (resources.who_listens(server, leader, marker).await, cause) });
                }
                Some(answer) = inquiry.join_next() => {
                    if let Ok((listener, cause)) = answer {
                        Box::pin(self.tell_who_listens(listener, cause)).await?;
                    }
                }
                () = self.cancel.cancelled(), if !is_cancelled => {
                    is_cancelled = true;
                    kill(&process);
                }
            }
        }
        Box::pin(self.conclude(process, readers, give_up)).await
    }

    async fn tell_who_listens(&self, listener: ListenerOwner, cause: Option<Seq>) -> Result<(), BusClosed> {
        let fact = self.reporter.fact(Event::ListenerIdentified { listener }).because(cause);
        self.reporter.facts.publish(fact).await
    }

    /// Cleans up after a process that has ended; returns the launch's last fact.
    async fn conclude(
        &self,
        process: Process,
        readers: JoinSet<()>,
        give_up: CancellationToken,
    ) -> Result<Event, BusClosed> {
        let Finished { end, swept, left } = finish(process, readers, give_up).await;
        if !left.is_empty() {
            let detail = format!("{} outlived the server and cannot be killed", listed(&left));
            self.reporter.publish(Event::ServerWarned { warning: Warning::DescendantLeft, detail }).await?;
        }
        Ok(Event::ServerExited { end, swept })
    }

    async fn deliver(&mut self, process: &Process, order: SignalOrder) -> Result<(), BusClosed> {
        let SignalOrder { signal, rung, cause } = order;
        if let Err(error) = process.deliver(signal) {
            // The next rung of the ladder is KILL, which always has a name.
            tracing::error!(server = %self.reporter.server, %error, "a signal was not delivered");
            return Ok(());
        }
        let fact = self.reporter.fact(Event::SignalDelivered { signal, rung }).because(cause);
        self.reporter.cause = Some(self.reporter.facts.publish_acked(fact).await?);
        Ok(())
    }
}

/// What is known when a process is gone.
struct Finished {
    end: ProcessEnd,
    swept: u32,
    left: Vec<Left>,
}

impl Finished {
    /// The last fact of a launch that `signal` called off before its program ran.
    fn map_end(self, signal: Signal) -> Event {
        Event::ServerExited { end: ProcessEnd::Signaled { signal, core_dumped: false }, swept: self.swept }
    }
}

/// Sweeps what outlived the process, lets the readers come to the end, reaps.
async fn finish(process: Process, mut readers: JoinSet<()>, give_up: CancellationToken) -> Finished {
    if let Err(error) = process.exited().await {
        tracing::error!(pid = process.pid(), %error, "an exit cannot be awaited");
    }
    let sweep = process.sweep(Instant::now() + SWEEP_TIMEOUT).await;
    let drained = timeout(DRAIN_TIMEOUT, async { while readers.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        give_up.cancel();
        while readers.join_next().await.is_some() {}
    }
    Finished { end: process.reap(), swept: sweep.killed, left: sweep.left }
}

/// The signal by which a launch is called off before its program runs: the first that is asked for that would end it.
async fn called_off(mailbox: &Mailbox, cancel: &CancellationToken) -> Signal {
    loop {
        tokio::select! {
            order = mailbox.next_signal() => if order.signal != Signal::CONT { return order.signal },
            () = cancel.cancelled() => return Signal::KILL,
        }
    }
}

fn kill(process: &Process) {
    if let Err(error) = process.deliver(Signal::KILL) {
        tracing::error!(pid = process.pid(), %error, "a process cannot be killed");
    }
}

/// What the shim reports: nothing if its program runs, the errno if exec failed.
async fn read_errno(exec_errors: OwnedFd) -> io::Result<()> {
    let report = read_bounded(exec_errors, ERRNO_BYTES).await?;
    match <[u8; 4]>::try_from(report) {
        Ok(errno) => Err(io::Error::from_raw_os_error(i32::from_le_bytes(errno))),
        Err(_) => Ok(()),
    }
}

fn who_listens(server: &ServerSpec, leader: u32, marker: &Marker) -> ListenerOwner {
    match address::resolve(&server.host, server.port) {
        Ok(entries) => {
            let addresses: Vec<_> = entries.into_iter().flat_map(|entry| entry.addresses).collect();
            listener::identify(&addresses, leader, marker)
        }
        Err((host, error)) => ListenerOwner::Unreadable { detail: format!("cannot resolve `{host}`: {error}") },
    }
}

fn listed(left: &[Left]) -> String {
    left.iter().map(Left::to_string).collect::<Vec<_>>().join(", ")
}

fn failed(failure: LaunchFailure) -> Event {
    Event::ServerFailed { reason: failure.reason, detail: failure.detail, lines: failure.lines }
}

fn exited_by(signal: Signal) -> Event {
    Event::ServerExited { end: ProcessEnd::Signaled { signal, core_dumped: false }, swept: 0 }
}
