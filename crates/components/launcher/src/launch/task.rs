//! The task of one launch up to its published `ServerSpawned`; [`RunningServer`] owns the launch from then on.
//!
//! Invariants: only this task signals and reaps the child. A launch that is cancelled before its program runs ends with
//! `ServerExited` by that signal; one that fails before its program runs ends with `ServerFailed`.

use std::io;
use std::pin::pin;
use std::sync::atomic::Ordering;

use llama_warden_events::{Event, FailureReason, HookOutcome, ProcessEnd, ServerId, Signal};
use llama_warden_support::{blocking, fail_point, is_disk_full};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::context::{EndedLaunch, Launch, NotStarted, SWEEP_TIMEOUT};
use super::failure::LaunchFailure;
use super::kill;
use super::orders::{LaunchInbox, LaunchOrder};
use super::prepare::PreparedLaunch;
use super::running::{OutputPipes, RunningServer, SpawnedServer, listed};
use llama_warden_processes::child_process::Spawned;
use llama_warden_processes::lock::InstanceLock;
use llama_warden_processes::spawn_request::{KeptProgram, SpawnRequest};
use llama_warden_processes::sweep::{ProcessSelector, Survivor, sweep};
use llama_warden_procfs::OomKills;

/// Decisions about a launch that are made before its task starts.
#[derive(Debug)]
pub(crate) struct LaunchPreconditions {
    /// A launched server that listens on the same address, or will.
    pub(crate) conflict: Option<ServerId>,
    /// Completes with the end of the `pre-start` command; `None` for a server without one.
    pub(crate) pre_start: Option<oneshot::Receiver<HookOutcome>>,
}

impl Launch {
    /// Runs the launch to its end.
    pub(crate) fn run(self, preconditions: LaunchPreconditions) -> impl Future<Output = EndedLaunch> {
        // Boxed, because it ends soon: a future is as large as its largest part, and this one lives for months.
        let begun = Box::pin(self.begin(preconditions));
        async move {
            let mut running = match begun.await {
                Ok(running) => running,
                Err(ended) => return ended,
            };
            let end = running.run().await;
            Box::pin(running.conclude(end)).await
        }
    }

    async fn begin(mut self, preconditions: LaunchPreconditions) -> Result<RunningServer, EndedLaunch> {
        match self.start(preconditions).await {
            Ok(spawned) => Ok(RunningServer::new(self, spawned)),
            Err(NotStarted::Ended(last)) => Err(self.end(last)),
            Err(NotStarted::Unheard) => Err(self.end_unheard()),
        }
    }

    /// Prepares and spawns the process, and publishes it.
    async fn start(&mut self, preconditions: LaunchPreconditions) -> Result<SpawnedServer, NotStarted> {
        let LaunchPreconditions { conflict, pre_start } = preconditions;
        let binary = self.server.binary.to_path_buf();
        fail_point("launch-requested");
        self.reporter.publish_acked(Event::LaunchBegan { binary }).await?;
        fail_point("launch-begun");
        if let Some(conflict) = conflict {
            let detail = format!("server {conflict} listens on the same port; give this server another `port`");
            return Err(LaunchFailure::new(FailureReason::PortInUse, detail).into());
        }
        if let Some(held) = self.resources.held.take(&self.reporter.server)
            && let Some(adopted) = self.adopt(held).await?
        {
            return Ok(adopted);
        }
        let prepared = async {
            // Before the checks, because the command may make what they check: fetch the model, mount its disk.
            if let Some(ended) = pre_start {
                self.run_pre_start(ended).await?;
                fail_point("launch-pre-start-over");
            }
            self.prepare(false).await
        };
        let prepared = tokio::select! {
            prepared = prepared => prepared?,
            signal = called_off(&self.inbox) => return Err(called_off_by(signal, 0)),
        };
        let argv = prepared.line.redacted().into();
        let spawned = self.spawn(prepared).await?;
        let (pid, start_ticks) = (spawned.process.pid(), spawned.process.start_ticks());
        // Acknowledged before the output is read, so that no event that a line leads to can come before this one.
        let event = Event::ServerSpawned { pid, start_ticks, argv, port: self.server.port };
        self.reporter.publish_acked(event).await?;
        fail_point("launch-published");
        Ok(spawned)
    }

    /// Spawns the process and waits until it runs its program.
    async fn spawn(&mut self, prepared: PreparedLaunch) -> Result<SpawnedServer, NotStarted> {
        let kept = self.resources.state_dir.as_deref().map(|state_dir| KeptProgram {
            folder: Self::shims(state_dir),
            name: self.reporter.server.to_string(),
            note: self.note(&prepared),
            outlives: self.resources.outlive,
        });
        let PreparedLaunch { line, environment, redactor } = prepared;
        let program = line.program.clone();
        let failure = |error: io::Error| LaunchFailure::spawn(&program, &error);
        fail_point("launch-prepared");
        self.lock = self.lock().await?;
        fail_point("launch-locked");
        let request = SpawnRequest {
            name: format!("shim {}", self.reporter.server),
            program: line.program,
            arguments: line.arguments,
            environment,
            lock: self.lock.as_ref().map(|lock| lock.path().to_owned()),
            may_leave_descendants: false,
            kept,
        };
        // The counts are read while the shim works: the kernel takes a good part of that time for them.
        let counts = async { self.oom_kills() };
        let mut spawning = pin!(async { tokio::join!(biased; self.resources.spawner.spawn(&request), counts) });
        let (spawned, oom_kills) = tokio::select! {
            spawned = &mut spawning => spawned,
            signal = called_off(&self.inbox) => {
                let mut killed = 0;
                if let (Ok(Spawned { mut process, .. }), _) = spawning.await {
                    kill(&process);
                    process.exited().await;
                    killed = process.outcome().killed;
                }
                return Err(called_off_by(signal, killed));
            }
        };
        let Spawned { process, stdout, stderr } = spawned.map_err(failure)?;
        fail_point("launch-spawned");
        let output = OutputPipes { stdout, stderr, redactor, missed: Default::default() };
        Ok(SpawnedServer { process, output, oom_kills })
    }

    /// The kernel's kills for want of memory so far, less those that are explained.
    pub(crate) fn oom_kills(&self) -> OomKills {
        OomKills::now().without(self.resources.oom_deaths.load(Ordering::Relaxed))
    }

    /// The lock that the process will hold; `None` without a state directory. Kills processes of an earlier launch that still
    /// hold it.
    ///
    /// # Errors
    /// If the lock's file cannot be made, or a holder cannot be killed: no server is started beside it.
    async fn lock(&self) -> Result<Option<InstanceLock>, LaunchFailure> {
        let Some(state_dir) = self.resources.state_dir.clone() else { return Ok(None) };
        let (folder, server) = (state_dir.clone(), self.reporter.server.clone());
        let create = move || InstanceLock::create(&folder, &server).map(|lock| (lock.is_held(), lock));
        let created = blocking(create).await.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = &created
            && (is_disk_full(error) || error.kind() == io::ErrorKind::NotFound)
        {
            let server = &self.reporter.server;
            tracing::warn!(%server, %error, "launched without a lock: a descendant that hides may not be found");
            return Ok(None);
        }
        let (is_held, lock) = created.map_err(|error| {
            let folder = InstanceLock::folder(&state_dir);
            let detail = format!(
                "cannot make a lock in {0}: {error}; make {0} a folder that the daemon can write, or remove it",
                folder.display()
            );
            LaunchFailure::new(FailureReason::SpawnFailed, detail)
        })?;
        if is_held {
            let holders = ProcessSelector { lock: Some(lock.clone()), ..ProcessSelector::default() };
            let survivors = sweep(&holders, Instant::now() + SWEEP_TIMEOUT).await.survivors;
            if !survivors.is_empty() {
                let who = listed(&survivors);
                let detail = match &survivors[..] {
                    [Survivor::Stranger(_)] => {
                        format!("{} is locked by {who}; end that process, or have it let go", lock.path().display())
                    }
                    _ => format!("{who} of an earlier launch is still there and cannot be killed"),
                };
                return Err(LaunchFailure::new(FailureReason::Unkillable, detail));
            }
        }
        Ok(Some(lock))
    }
}

/// Waits for an order that ends the launch before its program runs. Every signal but CONT would end a server then.
async fn called_off(inbox: &LaunchInbox) -> Signal {
    loop {
        match inbox.next_order().await {
            LaunchOrder::NoteReady => {}
            LaunchOrder::Signal(order) if order.signal == Signal::CONT => {}
            LaunchOrder::Signal(order) => return order.signal,
            LaunchOrder::CallOff | LaunchOrder::Leave => return Signal::KILL,
        }
    }
}

/// The end of a launch that `signal` cancelled before its program ran.
fn called_off_by(signal: Signal, swept: u32) -> NotStarted {
    NotStarted::Ended(Event::ServerExited { end: ProcessEnd::Signaled { signal, core_dumped: false }, swept })
}
