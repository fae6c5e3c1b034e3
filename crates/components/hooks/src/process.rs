//! The process of one command, from its start until it exits, exceeds its limit or is cancelled.
//!
//! Invariants:
//!
//! * One owner starts, signals and reaps the process. Before it is reaped, the kernel does not reuse its id, so that no signal
//!   can reach another process.
//! * It waits for this child alone. `waitpid(-1)` would also take the exit status of a llama-server from the launcher.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use llama_warden_config::KeySource;
use llama_warden_events::{HookOutcome, StreamName};
use llama_warden_support::{Redactor, blocking, variable_secrets};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::sync::CancellationToken;

use crate::call::HookCall;
use crate::output::{LastLines, log_lines};

/// How long output is read after the exit of the command: a process that it left behind may keep the pipe open for ever.
const LAST_OUTPUT: Duration = Duration::from_millis(500);

/// How long a killed command may take to exit. One that waits in the kernel for a disk or a mount takes longer.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);

/// Variables with which systemd addresses the daemon alone. A command that inherited `NOTIFY_SOCKET`, for example, could report
/// the daemon as ready.
const NOT_INHERITED: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// Runs a command to its end, for at most `limit`, or until `call_off`: its launch or process is over. Dropping the future kills
/// the process group.
pub(crate) async fn run(call: &HookCall, limit: Duration, call_off: &CancellationToken) -> HookOutcome {
    match HookProcess::start(call).await {
        Ok(hook) => hook.wait(call, limit, call_off).await,
        Err(error) => failed(format!("`{}` cannot be run: {error}", call.argv.first().map_or("", String::as_str))),
    }
}

/// The outcome of a command that was not run, or wrote no output.
pub(crate) fn failed(detail: impl Into<String>) -> HookOutcome {
    HookOutcome::Failed { detail: detail.into(), lines: Box::default() }
}

/// Why the wait for a command is over.
enum HookEnd {
    Ended,
    TimedOut,
    Cancelled,
}

struct HookProcess {
    child: Child,
    /// Replaces the secrets that the command may print.
    redactor: Redactor,
    /// A pidfd: readable once the process has exited.
    end: AsyncFd<OwnedFd>,
    is_reaped: bool,
}

impl HookProcess {
    async fn start(call: &HookCall) -> io::Result<Self> {
        let mut command = command(call)?;
        // On the blocking pool, since `spawn` waits until the program is read from its disk. The closure builds the whole
        // `HookProcess`: if this future is dropped meanwhile, the result is dropped too, which kills the process.
        let (secrets, key_files) = (call.secrets.clone(), call.key_files.clone());
        let start = move || {
            let redactor = redactor(secrets, &key_files);
            let child = command.spawn()?;
            let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).map_err(io::Error::from);
            match pidfd.and_then(async_pidfd) {
                Ok(end) => Ok(Self { child, redactor, end, is_reaped: false }),
                Err(error) => {
                    // Without a pidfd its exit goes unnoticed, so that it must not run.
                    kill_and_reap(child);
                    Err(error)
                }
            }
        };
        blocking(start).await.map_err(io::Error::other)?
    }

    async fn wait(mut self, call: &HookCall, limit: Duration, call_off: &CancellationToken) -> HookOutcome {
        let (mut stdout, mut stderr) = (LastLines::new(), LastLines::new());
        let pipes = (self.child.stdout.take().map(OwnedFd::from), self.child.stderr.take().map(OwnedFd::from));
        let end = {
            let output = async {
                let read = async |stream, pipe: Option<OwnedFd>, last: &mut _| match pipe {
                    Some(pipe) => log_lines(call, &self.redactor, stream, pipe, last).await,
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
                () = tokio::time::sleep(limit) => HookEnd::TimedOut,
                () = call_off.cancelled() => HookEnd::Cancelled,
            }
        };
        let how = match end {
            HookEnd::Ended => match self.reap().await {
                Ok(status) if status.success() => return HookOutcome::Succeeded,
                Ok(status) => describe(status),
                Err(error) => format!("nobody knows how it ended: {error}"),
            },
            HookEnd::TimedOut => {
                let limit = (limit.as_secs_f64() * 10.0).round() / 10.0;
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

    /// Kills the process group and returns whether the process exited within [`KILL_TIMEOUT`]. One that the kernel holds is
    /// reaped by a task of its own, so that the caller does not wait for it.
    async fn kill(mut self) -> bool {
        kill_group(&self.child);
        let is_gone = tokio::time::timeout(KILL_TIMEOUT, self.end.readable()).await.is_ok();
        let reap = async move { self.reap().await };
        if is_gone {
            // Its status is that of our KILL.
            let _ = reap.await;
        } else {
            drop(tokio::spawn(reap));
        }
        is_gone
    }

    async fn reap(&mut self) -> io::Result<ExitStatus> {
        // Not bounded in time: after KILL only the kernel delays the exit, and an unreaped process costs one zombie.
        self.end.readable().await?.retain_ready();
        self.is_reaped = true;
        // As process 1, the daemon also reaps orphans, and may have reaped this process as one. Then `wait` fails.
        self.child.wait()
    }
}

impl Drop for HookProcess {
    fn drop(&mut self) {
        if !self.is_reaped {
            kill_group(&self.child);
            // Not a wait, which could block a drop. At the end of the daemon, the process that adopts its children reaps
            // this one.
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

/// Replaces what is secret in the configuration of the server, in its key files, and in the environment that the command inherits.
fn redactor(mut secrets: Vec<String>, key_files: &[KeySource]) -> Redactor {
    for (name, value) in std::env::vars_os() {
        secrets.extend(variable_secrets(&name.to_string_lossy(), &value.to_string_lossy()));
    }
    // A file that cannot be read has no keys that the command could print.
    secrets.extend(key_files.iter().filter_map(|file| file.read().ok()).flat_map(|read| read.keys));
    Redactor::new(secrets)
}

fn async_pidfd(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(deprecated, reason = "the replacement is an unsafe function; an OwnedFd meets its contract")]
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

/// Waits for the exit, and reads output until then and up to [`LAST_OUTPUT`] longer.
async fn wait_for_end<E, O>(ended: impl Future<Output = E>, output: impl Future<Output = O>) {
    let mut output = std::pin::pin!(output);
    let mut ended = std::pin::pin!(ended);
    tokio::select! {
        _ = &mut ended => {
            // The rest is what the pipe still holds, or what a process that was left behind writes.
            let _ = tokio::time::timeout(LAST_OUTPUT, output).await;
        }
        // Both pipes are closed; the command may run on without output.
        _ = &mut output => {
            ended.await;
        }
    }
}

fn kill_and_reap(mut child: Child) {
    kill_group(&child);
    // Blocks shortly, on a thread of the blocking pool. Its status is that of our KILL.
    let _ = child.wait();
}

fn kill_group(child: &Child) {
    // The child is not reaped yet, so that its id names its own group. An error means that the group is empty.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}
