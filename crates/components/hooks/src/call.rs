//! One command that is to be run, with what it is told.

use std::collections::BTreeMap;
use std::time::Duration;

use llama_warden_config::ServerSpec;
use llama_warden_events::{HookPoint, Incarnation, ProcessEnd, Seq, ServerId};
use tokio::time::Instant;

/// Names start with this. A double underscore would make a variable an override of the configuration, for commands of
/// ours that a hook runs.
const VARIABLE_PREFIX: &str = "LLAMA_WARDEN_";

/// A command that is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HookCall {
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) hook: HookPoint,
    /// The program and its arguments.
    pub(crate) argv: Vec<String>,
    /// Longest time for it.
    pub(crate) limit: Duration,
    /// When it has to be over, for one whose turn counts too.
    pub(crate) deadline: Option<Instant>,
    /// What it is told, by the names of environment variables.
    pub(crate) variables: BTreeMap<String, String>,
    /// The event that it is run for, where that was heard.
    pub(crate) cause: Option<Seq>,
}

impl HookCall {
    /// The command of `spec` at `hook`, if it has one.
    pub(crate) fn of(spec: &ServerSpec, incarnation: Incarnation, hook: HookPoint) -> Option<Self> {
        let argv = match hook {
            HookPoint::PreStart => &spec.hooks.pre_start,
            HookPoint::PostReady => &spec.hooks.post_ready,
            HookPoint::PreStop => &spec.hooks.pre_stop,
            HookPoint::PostExit => &spec.hooks.post_exit,
        };
        let (server, argv, limit) = (spec.id.clone(), argv.clone()?, spec.hooks.timeout);
        let variables = BTreeMap::new();
        let call = Self { server, incarnation, hook, argv, limit, deadline: None, variables, cause: None };
        let call = call
            .telling("HOOK", hook.as_str())
            .telling("SERVER", spec.id.to_string())
            .telling("INCARNATION", incarnation.to_string())
            .telling("HOST", &spec.host)
            .telling("PORT", spec.port.to_string())
            .telling("MODEL", spec.model.display().to_string());
        Some(call)
    }

    /// Whether somebody waits for its end, and gives it up when what it is run for is over.
    pub(crate) const fn is_awaited(&self) -> bool {
        matches!(self.hook, HookPoint::PreStart | HookPoint::PreStop)
    }

    pub(crate) fn because(mut self, cause: Option<Seq>) -> Self {
        self.cause = cause;
        self
    }

    /// Makes the limit of a command that a stop waits for one that begins now: its turn counts too.
    pub(crate) fn in_time(mut self, now: Instant) -> Self {
        if self.hook == HookPoint::PreStop {
            self.deadline = now.checked_add(self.limit);
        }
        self
    }

    pub(crate) fn telling(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(format!("{VARIABLE_PREFIX}{name}"), value.into());
        self
    }

    pub(crate) fn telling_end(self, end: ProcessEnd) -> Self {
        match end {
            ProcessEnd::Exited { code } => self.telling("EXIT_CODE", code.to_string()),
            ProcessEnd::Signaled { signal, .. } => self.telling("SIGNAL", signal.to_string()),
            ProcessEnd::Unknown => self,
        }
    }
}
