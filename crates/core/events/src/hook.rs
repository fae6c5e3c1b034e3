//! How a command around a server's life ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a command around a server's life ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum HookOutcome {
    /// It ended with code 0.
    Succeeded,
    /// It could not be run, ended in another way, or was killed at its limit.
    Failed {
        /// What happened, for people.
        detail: String,
        /// Its last lines of output, oldest first.
        #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
        lines: Box<[String]>,
    },
    /// It was ended, or never begun, because what it was run for is over: a start that is stopped, a stop that is done.
    CalledOff,
}
