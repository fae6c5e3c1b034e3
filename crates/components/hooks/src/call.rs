//! One command to run, with its environment variables.

use std::collections::BTreeMap;
use std::time::Duration;

use llama_warden_component::LaunchedProcess;
use llama_warden_config::{KeySource, ServerSpec};
use llama_warden_dialects::server_secrets;
use llama_warden_events::{HookPoint, Incarnation, ProcessEnd, Seq, ServerId, Signal};
use tokio::time::Instant;

/// Prefix of the variables. After it, one underscore only: `LLAMA_WARDEN__` overrides a configuration key, for a `llama-warden`
/// that the command itself may run.
const VARIABLE_PREFIX: &str = "LLAMA_WARDEN_";

/// A command to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HookCall {
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) hook: HookPoint,
    /// The program and its arguments.
    pub(crate) argv: Vec<String>,
    /// Longest time for the command.
    pub(crate) limit: Duration,
    /// When it must have ended, for a command whose time in the queue counts too.
    pub(crate) deadline: Option<Instant>,
    /// Environment variables by name.
    pub(crate) variables: BTreeMap<String, String>,
    /// Secrets of the server, which its output may contain.
    pub(crate) secrets: Vec<String>,
    /// The files with more of them.
    pub(crate) key_files: Vec<KeySource>,
    /// The event that it is run for, where that was received.
    pub(crate) cause: Option<Seq>,
}

impl HookCall {
    /// The command that `spec` has at `hook`, if it has one.
    pub(crate) fn of(spec: &ServerSpec, incarnation: Incarnation, hook: HookPoint) -> Option<Self> {
        let argv = match hook {
            HookPoint::PreStart => &spec.hooks.pre_start,
            HookPoint::PostReady => &spec.hooks.post_ready,
            HookPoint::PreStop => &spec.hooks.pre_stop,
            HookPoint::PostExit => &spec.hooks.post_exit,
        };
        let (server, argv, limit) = (spec.id.clone(), argv.clone()?, spec.hooks.timeout);
        let key_files = spec.key_sources().into_iter().filter(KeySource::is_file).collect();
        let secrets = server_secrets(spec);
        let variables = BTreeMap::new();
        let call =
            Self { server, incarnation, hook, argv, limit, deadline: None, variables, secrets, key_files, cause: None };
        Some(
            call.telling("HOOK", hook.as_str())
                .telling("SERVER", spec.id.to_string())
                .telling("INCARNATION", incarnation.to_string())
                .telling("HOST", &*spec.host)
                .telling("PORT", spec.port.to_string())
                .telling("MODEL", spec.model.display().to_string()),
        )
    }

    /// Whether another component waits for its `HookCompleted`. Such a command is cancelled once its launch or process is over.
    pub(crate) const fn is_awaited(&self) -> bool {
        matches!(self.hook, HookPoint::PreStart | HookPoint::PreStop)
    }

    pub(crate) fn because(mut self, cause: Option<Seq>) -> Self {
        self.cause = cause;
        self
    }

    /// Starts the limit of a `pre-stop` command now instead of at its start: the grace of the stop runs while it waits.
    pub(crate) fn in_time(mut self, now: Instant) -> Self {
        if self.hook == HookPoint::PreStop {
            self.deadline = now.checked_add(self.limit);
        }
        self
    }

    /// Adds a variable; `name` is without the prefix.
    pub(crate) fn telling(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(format!("{VARIABLE_PREFIX}{name}"), value.into());
        self
    }

    /// Adds how the process ended, where the kernel reported it.
    pub(crate) fn telling_end(self, end: ProcessEnd) -> Self {
        match end {
            ProcessEnd::Exited { code } => self.telling("EXIT_CODE", code.to_string()),
            ProcessEnd::Signaled { signal, .. } => self.telling("SIGNAL", signal.to_string()),
            ProcessEnd::OutOfMemory => self.telling("SIGNAL", Signal::KILL.to_string()),
            ProcessEnd::Unknown => self,
        }
    }

    /// Names the process, where there is one.
    pub(crate) fn of_process(self, process: Option<LaunchedProcess>) -> Self {
        match process {
            Some(LaunchedProcess { pid, port, .. }) => {
                self.telling("PID", pid.to_string()).telling("PORT", port.to_string())
            }
            None => self,
        }
    }
}
