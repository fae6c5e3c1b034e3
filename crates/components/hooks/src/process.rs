//! The process of one command, from its start until it exits, exceeds its limit or is cancelled.
//!
//! It has a shim, like a server: when the daemon is gone, it is killed with everything below it. What it leaves running in the
//! background by itself runs on until then.

use std::io;
use std::time::Duration;

use llama_warden_config::KeySource;
use llama_warden_events::{BootId, HookOutcome, ProcessEnd, Signal, StreamName};
use llama_warden_processes::child_process::ChildProcess;
use llama_warden_processes::child_process::Spawned;
use llama_warden_processes::environment::ChildEnvironment;
use llama_warden_processes::launch_tag::{LAUNCH_TAG_VARIABLE, LaunchTag};
use llama_warden_processes::spawn_request::SpawnRequest;
use llama_warden_processes::spawner::Spawner;
use llama_warden_support::{Redactor, blocking, variable_secrets};
use tokio::time::{sleep, timeout};
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

/// Runs commands.
#[derive(Debug, Clone)]
pub(crate) struct HookRunner {
    pub(crate) boot: BootId,
    pub(crate) spawner: Spawner,
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

impl HookRunner {
    /// Runs a command to its end, for at most `limit`, or until `call_off`: its launch or process is over. Dropping the future kills
    /// the command.
    pub(crate) async fn run(&self, call: &HookCall, limit: Duration, call_off: &CancellationToken) -> HookOutcome {
        let program = call.argv.first().map_or("", String::as_str);
        let (secrets, key_files) = (call.secrets.clone(), call.key_files.clone());
        let redactor = blocking(move || redactor(secrets, &key_files)).await;
        let spawned = match redactor {
            Ok(redactor) => self.spawner.spawn(&self.request(call)).await.map(|spawned| (spawned, redactor)),
            Err(error) => Err(io::Error::other(error)),
        };
        match spawned {
            Ok((spawned, redactor)) => wait(spawned, &redactor, call, limit, call_off).await,
            Err(error) => failed(format!("`{program}` cannot be run: {error}")),
        }
    }

    fn request(&self, call: &HookCall) -> SpawnRequest {
        let (program, arguments) =
            call.argv.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        let mut environment: ChildEnvironment =
            std::env::vars_os().filter(|(name, _)| !NOT_INHERITED.iter().any(|other| name == other)).collect();
        environment.extend(call.variables.iter().map(|(name, value)| (name.into(), value.into())));
        environment.insert(LAUNCH_TAG_VARIABLE.into(), LaunchTag::of_hook(&self.boot, &call.server).value().into());
        SpawnRequest {
            name: format!("shim {}", call.hook),
            program: program.into(),
            arguments: arguments.iter().map(Into::into).collect(),
            environment,
            lock: None,
            may_leave_descendants: true,
            kept: None,
        }
    }
}

async fn wait(
    spawned: Spawned,
    redactor: &Redactor,
    call: &HookCall,
    limit: Duration,
    call_off: &CancellationToken,
) -> HookOutcome {
    let Spawned { mut process, stdout, stderr } = spawned;
    let (mut out, mut err) = (LastLines::new(), LastLines::new());
    let end = {
        let output = async {
            tokio::join!(
                log_lines(call, redactor, StreamName::Stdout, stdout, &mut out),
                log_lines(call, redactor, StreamName::Stderr, stderr, &mut err)
            )
        };
        tokio::select! {
            () = wait_for_end(process.exited(), output) => HookEnd::Ended,
            () = sleep(limit) => HookEnd::TimedOut,
            () = call_off.cancelled() => HookEnd::Cancelled,
        }
    };
    let how = match end {
        HookEnd::Ended => {
            let end = process.end();
            // What it has left runs on, until the daemon ends.
            drop(tokio::spawn(process.all_exited()));
            match end {
                ProcessEnd::Exited { code: 0 } => return HookOutcome::Succeeded,
                ProcessEnd::Exited { code } => format!("exit code {code}"),
                ProcessEnd::Signaled { signal, .. } => format!("ended by signal {}", signal.number()),
                ProcessEnd::OutOfMemory | ProcessEnd::Unknown => {
                    "nobody knows how it ended: its shim was killed".to_owned()
                }
            }
        }
        HookEnd::TimedOut => {
            let limit = (limit.as_secs_f64() * 10.0).round() / 10.0;
            let and_still_there = if kill(process).await { "" } else { "; the kernel holds it still" };
            format!("killed after {limit} s{and_still_there}")
        }
        HookEnd::Cancelled => {
            kill(process).await;
            return HookOutcome::CalledOff;
        }
    };
    let last_line = err.back().or(out.back()).map(|line| format!("; it said last: {line}"));
    let detail = how + &last_line.unwrap_or_default();
    HookOutcome::Failed { detail, lines: out.into_iter().chain(err).collect() }
}

/// Kills a command with everything below it, and returns whether it ended within [`KILL_TIMEOUT`]. For one that the kernel holds, its
/// shim waits alone.
async fn kill(mut process: ChildProcess) -> bool {
    // An error means that it has ended.
    let _ = process.deliver(Signal::KILL);
    timeout(KILL_TIMEOUT, process.exited()).await.is_ok()
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

/// Waits for the exit, and reads output until then and up to [`LAST_OUTPUT`] longer.
async fn wait_for_end<E, O>(ended: impl Future<Output = E>, output: impl Future<Output = O>) {
    let mut output = std::pin::pin!(output);
    let mut ended = std::pin::pin!(ended);
    tokio::select! {
        _ = &mut ended => {
            // The rest is what the pipe still holds, or what a process that was left behind writes.
            let _ = timeout(LAST_OUTPUT, output).await;
        }
        // Both pipes are closed; the command may run on without output.
        _ = &mut output => {
            ended.await;
        }
    }
}
