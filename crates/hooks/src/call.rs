//! One command that is to be run, with what it is told.

use std::collections::BTreeMap;

use llama_warden_events::{HookPoint, Incarnation, ProcessEnd, Seq, ServerId};

/// Names start with this. A double underscore would make a variable an override of the configuration, for commands of
/// ours that a hook runs.
const PREFIX: &str = "LLAMA_WARDEN_";

/// A command that is to be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HookCall {
    pub(crate) server: ServerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) hook: HookPoint,
    /// The program and its arguments.
    pub(crate) argv: Vec<String>,
    /// What it is told, by the names of environment variables.
    pub(crate) variables: BTreeMap<String, String>,
    /// The fact that it is run for, where that was heard.
    pub(crate) cause: Option<Seq>,
}

impl HookCall {
    pub(crate) fn new(server: ServerId, incarnation: Incarnation, hook: HookPoint, argv: Vec<String>) -> Self {
        let call = Self { server, incarnation, hook, argv, variables: BTreeMap::new(), cause: None };
        let (server, incarnation) = (call.server.to_string(), incarnation.to_string());
        call.telling("HOOK", hook.as_str()).telling("SERVER", server).telling("INCARNATION", incarnation)
    }

    pub(crate) fn because(mut self, cause: Option<Seq>) -> Self {
        self.cause = cause;
        self
    }

    pub(crate) fn telling(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.insert(format!("{PREFIX}{name}"), value.into());
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
