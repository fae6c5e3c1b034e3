//! One launch, from the first look to the process that all know of; [`RunningServer`] sees it through from there. The one task that
//! signals and reaps its child.

use std::io;
use std::os::fd::OwnedFd;

use llama_warden_bus::BusClosed;
use llama_warden_events::{Event, FailureReason, HookOutcome, ProcessEnd, ServerId, Signal};
use llama_warden_support::blocking;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::context::{EndedLaunch, Launch, SWEEP_TIMEOUT};
use super::failure::LaunchFailure;
use super::orders::{LaunchInbox, LaunchOrder};
use super::pre_start;
use super::prepare::{NotPrepared, PreparedLaunch, prepare};
use super::running::{OutputPipes, RunningServer, kill, listed, sweep_and_reap};
use crate::output::pipes::read_bounded;
use crate::process::child_process::ChildProcess;
use crate::process::lock::InstanceLock;
use crate::process::spawn_request::SpawnRequest;
use crate::process::sweep::{ProcessSelector, sweep};

/// Bytes of an errno on the shim's pipe.
const ERRNO_BYTES: u64 = 4;

/// What comes before a launch, or between it and its process.
#[derive(Debug)]
pub(crate) struct LaunchPreconditions {
    /// A server that is launched and listens in the same place, or will.
    pub(crate) conflict: Option<ServerId>,
    /// Tells how the `pre-start` command ended, for a server that has one.
    pub(crate) pre_start: Option<oneshot::Receiver<HookOutcome>>,
}

/// A process that is being made, until all know of it.
struct Spawning {
    process: ChildProcess,
    output: OutputPipes,
}

impl Launch {
    /// Runs the launch to its end.
    pub(crate) fn run(self, preconditions: LaunchPreconditions) -> impl Future<Output = EndedLaunch> {
        // Boxed, as everything that is over soon: a future is as large as its largest part, and this one lives for months.
        let began = Box::pin(self.begin(preconditions));
        async move {
            let mut running = match began.await {
                Ok(running) => running,
                Err(over) => return over,
            };
            let attended = running.run_until_exit().await;
            Box::pin(running.conclude(attended)).await
        }
    }

    /// Everything until the process is known to all, and its output read.
    async fn begin(mut self, preconditions: LaunchPreconditions) -> Result<RunningServer, EndedLaunch> {
        match self.make(preconditions).await {
            Ok(Ok(Spawning { process, output })) => Ok(RunningServer::new(self, process, output)),
            Ok(Err(last)) => Err(self.over(last)),
            Err(BusClosed) => Err(self.end_unheard()),
        }
    }

    /// Makes the process and tells all of it; the inner error is the launch's last event.
    async fn make(&mut self, preconditions: LaunchPreconditions) -> Result<Result<Spawning, Event>, BusClosed> {
        let LaunchPreconditions { conflict, pre_start } = preconditions;
        let began = Event::LaunchBegan { binary: self.server.binary.to_path_buf() };
        self.reporter.cause = Some(self.reporter.publish_acked(began).await?);
        if let Some(conflict) = conflict {
            let detail = format!("server {conflict} listens on the same port; give this server another `port`");
            return Ok(Err(failed(LaunchFailure::new(FailureReason::PortInUse, detail))));
        }
        let tag = self.tag();
        let (server, resources, reporter) = (&self.server, &self.resources, &self.reporter);
        let prepared = async {
            // Before the first look, since it may make what is looked at: fetch the model, mount its disk.
            if let Some(ended) = pre_start {
                pre_start::run(&resources.commands, reporter, ended).await?;
            }
            prepare(server, &tag, resources, reporter).await
        };
        let prepared = tokio::select! {
            prepared = prepared => prepared,
            signal = called_off(&self.inbox) => return Ok(Err(exited_by(signal))),
        };
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(NotPrepared::Failed(failure)) => return Ok(Err(failed(failure))),
            Err(NotPrepared::Unheard) => return Err(BusClosed),
        };
        let argv = prepared.line.redacted().into();
        let spawning = match self.spawn(prepared).await {
            Ok(spawning) => spawning,
            Err(last) => return Ok(Err(last)),
        };
        let spawned = Event::ServerSpawned {
            pid: spawning.process.pid(),
            start_ticks: spawning.process.start_ticks(),
            argv,
            port: self.server.port,
        };
        // Acknowledged, so that nothing that a line leads to can come before it.
        self.reporter.cause = Some(self.reporter.publish_acked(spawned).await?);
        Ok(Ok(spawning))
    }

    /// Makes the process and waits until it runs its program; the error is the launch's last event.
    async fn spawn(&self, prepared: PreparedLaunch) -> Result<Spawning, Event> {
        let PreparedLaunch { line, environment, redactor } = prepared;
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
        let process = ChildProcess::new(spawner, spawned.child).map_err(|error| failure(&error))?;
        if let Some(exec_errors) = spawned.exec_errors {
            let confirmed = tokio::select! {
                confirmed = read_errno(exec_errors) => confirmed,
                signal = called_off(&self.inbox) => {
                    // The shim would only be in the way of the signal's meaning: nothing runs yet.
                    kill(&process);
                    return Err(sweep_and_reap(process, self.selector(), None).await.map_end(signal));
                }
            };
            if let Err(error) = confirmed {
                kill(&process);
                sweep_and_reap(process, self.selector(), None).await;
                return Err(failure(&error));
            }
        }
        let output = OutputPipes { stdout: spawned.stdout, stderr: spawned.stderr, redactor };
        Ok(Spawning { process, output })
    }

    /// The lock that the launch is to hold. Who is left of an earlier launch and still holds it is killed first; beside one
    /// that cannot be, nothing is started.
    async fn lock(&self) -> Result<Option<InstanceLock>, LaunchFailure> {
        let Some(state_dir) = self.resources.state_dir.clone() else { return Ok(None) };
        let (folder, server) = (state_dir.clone(), self.reporter.server.clone());
        let make = move || InstanceLock::of(&folder, &server).map(|lock| (lock.is_held(), lock));
        let made = blocking(make).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let (is_held, lock) = made.map_err(|error| {
            let detail = format!("cannot make a lock in the state directory {}: {error}", state_dir.display());
            LaunchFailure::new(FailureReason::SpawnFailed, detail)
        })?;
        if is_held {
            let holders = ProcessSelector { lock: Some(lock.clone()), ..ProcessSelector::default() };
            let survivors = sweep(&holders, Instant::now() + SWEEP_TIMEOUT).await.survivors;
            if !survivors.is_empty() {
                let detail = format!("{} of an earlier launch is still there and cannot be killed", listed(&survivors));
                return Err(LaunchFailure::new(FailureReason::Unkillable, detail));
            }
        }
        Ok(Some(lock))
    }
}

/// The signal by which a launch is called off before its program runs: the first that is asked for that would end it.
async fn called_off(inbox: &LaunchInbox) -> Signal {
    loop {
        match inbox.next_order().await {
            LaunchOrder::Signal(order) if order.signal == Signal::CONT => {}
            LaunchOrder::Signal(order) => return order.signal,
            LaunchOrder::CallOff => return Signal::KILL,
        }
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

fn failed(failure: LaunchFailure) -> Event {
    Event::ServerFailed { reason: failure.reason, detail: failure.detail, lines: failure.lines }
}

fn exited_by(signal: Signal) -> Event {
    Event::ServerExited { end: ProcessEnd::Signaled { signal, core_dumped: false }, swept: 0 }
}
