//! The process of a command, from its start to its end, to its limit, or until it is called off.
//!
//! One owner starts, signals and reaps it, so that no signal can meet another process of the same id. A wait for *any*
//! child would steal the status of a llama-server; this one is for the very child.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use llama_warden_events::{HookOutcome, StreamName};
use llama_warden_support::blocking;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use crate::call::HookCall;
use crate::output::{LastLines, log_lines};

/// How long output is awaited once the command has ended: something that it left running may hold the pipe for ever.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// How long a killed command may take to be gone; one that waits for a disk or a mount in the kernel stays.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// Variables by which the daemon's own manager speaks to it and to nobody else.
const NOT_INHERITED: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// What ends a command that does not end by itself.
#[derive(Debug)]
pub(crate) struct HookLimits {
    /// Longest time for it.
    pub(crate) limit: Duration,
    /// Cancelled when nobody wants it any more.
    pub(crate) call_off: CancellationToken,
}

/// Runs a command. Dropping the future kills it with its group.
pub(crate) async fn run(call: &HookCall, limits: &HookLimits) -> HookOutcome {
    match HookProcess::start(call).await {
        Ok(hook) => hook.wait(call, limits).await,
        Err(error) => failed(format!("`{}` cannot be run: {error}", call.argv.first().map_or("", String::as_str))),
    }
}

/// Of a command that was not run, or said nothing.
pub(crate) fn failed(detail: impl Into<String>) -> HookOutcome {
    HookOutcome::Failed { detail: detail.into(), lines: Box::default() }
}

/// Why a command is not waited for any longer.
enum HookEnd {
    Ended,
    TimedOut,
    Cancelled,
}

struct HookProcess {
    child: Child,
    /// Readable once the process has ended.
    end: AsyncFd<OwnedFd>,
    is_reaped: bool,
}

impl HookProcess {
    async fn start(call: &HookCall) -> io::Result<Self> {
        let mut command = command(call)?;
        // Beside the runtime, since a start waits for the program to be read from its disk. Whole, so that a start that
        // nobody waits for any more ends as a dropped hook does.
        let start = move || {
            let child = command.spawn()?;
            match pidfd_open(Pid::from_child(&child), PidfdFlags::empty())
                .map_err(io::Error::from)
                .and_then(async_pidfd)
            {
                Ok(end) => Ok(Self { child, end, is_reaped: false }),
                Err(error) => {
                    // Nobody could say when it ends, so that it must not run.
                    kill_and_reap(child);
                    Err(error)
                }
            }
        };
        blocking(start).await.map_err(io::Error::other)?
    }

    async fn wait(mut self, call: &HookCall, limits: &HookLimits) -> HookOutcome {
        let (mut stdout, mut stderr) = (LastLines::new(), LastLines::new());
        let pipes = (self.child.stdout.take().map(OwnedFd::from), self.child.stderr.take().map(OwnedFd::from));
        let end = {
            let output = async {
                let read = async |stream, pipe: Option<OwnedFd>, last: &mut _| match pipe {
                    Some(pipe) => log_lines(call, stream, pipe, last).await,
                    None => Ok(()),
                };
                tokio::join!(
                    read(StreamName::Stdout, pipes.0, &mut stdout),
                    read(StreamName::Stderr, pipes.1, &mut stderr)
                )
            };
            let ended = self.end.readable();
            tokio::select! {
                () = wait_for_end(ended, output) => HookEnd::Ended,
                () = tokio::time::sleep(limits.limit) => HookEnd::TimedOut,
                () = limits.call_off.cancelled() => HookEnd::Cancelled,
            }
        };
        let how = match end {
            HookEnd::Ended => match self.reap().await {
                Ok(status) if status.success() => return HookOutcome::Succeeded,
                Ok(status) => describe(status),
                Err(error) => format!("nobody knows how it ended: {error}"),
            },
            HookEnd::TimedOut => {
                let limit = (limits.limit.as_secs_f64() * 10.0).round() / 10.0;
                let and_still_there = if self.kill().await { "" } else { "; the kernel holds it still" };
                format!("killed after {limit} s{and_still_there}")
            }
            HookEnd::Cancelled => {
                self.kill().await;
                return HookOutcome::CalledOff;
            }
        };
        let last_line = stderr.back().or(stdout.back()).map(|line| format!("; it said last: {line}"));
        let detail = how + &last_line.unwrap_or_default();
        HookOutcome::Failed { detail, lines: stdout.into_iter().chain(stderr).collect() }
    }

    /// Kills it with its group and says whether it is gone. Who waits for it is not held up by what the kernel holds.
    async fn kill(mut self) -> bool {
        kill_group(&self.child);
        let is_gone = tokio::time::timeout(KILL_TIMEOUT, self.end.readable()).await.is_ok();
        let reap = async move { self.reap().await };
        if is_gone {
            // Its status says nothing, since it was killed.
            let _ = reap.await;
        } else {
            drop(tokio::spawn(reap));
        }
        is_gone
    }

    async fn reap(&mut self) -> io::Result<ExitStatus> {
        // After KILL only the kernel can hold it up; it is bounded by what a zombie costs.
        self.end.readable().await?.retain_ready();
        self.is_reaped = true;
        // As process 1 the daemon also reaps orphans, and may have taken this one for such: then there is no status.
        self.child.wait()
    }
}

impl Drop for HookProcess {
    fn drop(&mut self) {
        if !self.is_reaped {
            kill_group(&self.child);
            // The daemon is ending, and whoever adopts its children reaps this one.
            let _ = self.child.try_wait();
        }
    }
}

fn command(call: &HookCall) -> io::Result<Command> {
    let (program, arguments) =
        call.argv.split_first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the command is empty"))?;
    let mut command = Command::new(program);
    command.args(arguments).process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for name in NOT_INHERITED {
        command.env_remove(name);
    }
    command.envs(&call.variables);
    Ok(command)
}

fn async_pidfd(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(deprecated, reason = "what replaces it is an unsafe function, whose demand an OwnedFd meets")]
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

/// Waits for the end, reading output meanwhile and a little longer.
async fn wait_for_end<E, O>(ended: impl Future<Output = E>, output: impl Future<Output = O>) {
    let mut output = std::pin::pin!(output);
    let mut ended = std::pin::pin!(ended);
    tokio::select! {
        _ = &mut ended => {
            // What is left of the output is small, or belongs to somebody else.
            let _ = tokio::time::timeout(LAST_OUTPUT, output).await;
        }
        _ = &mut output => {
            ended.await;
        }
    }
}

fn kill_and_reap(mut child: Child) {
    kill_group(&child);
    // It was killed a moment ago; its status says nothing.
    let _ = child.wait();
}

fn kill_group(child: &Child) {
    // It is not reaped yet, so that the id is its own; the group may be empty already.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}
