//! How a hook ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a hook ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum HookOutcome {
    /// It ended with code 0.
    Succeeded,
    /// It could not be started, ended with another code or by a signal, or was killed at its time limit.
    Failed {
        /// What happened, for people.
        detail: String,
        /// Its last lines of output, oldest first.
        #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
        lines: Box<[String]>,
    },
    /// It was cancelled, or never started, because its launch was stopped or its process is gone.
    CalledOff,
}
