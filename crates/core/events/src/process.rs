//! How a process ended, independent of the kernel's types.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Signal;

/// How a process ended, as `waitid(2)` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ProcessEnd {
    /// It called `exit`, with this code from 0 to 255.
    Exited {
        /// The exit code.
        code: u8,
    },
    /// A signal ended it.
    Signaled {
        /// The signal.
        signal: Signal,
        /// Whether the kernel wrote a core file.
        core_dumped: bool,
    },
    /// The kernel killed it because memory ran out, or it ended with code 137 because the kernel killed a descendant.
    OutOfMemory,
    /// It is gone and its status is unknown: another process reaped it.
    Unknown,
}

impl ProcessEnd {
    /// Whether the process ended by itself and reported success.
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Exited { code: 0 })
    }
}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited { code } => write!(f, "exit code {code}"),
            Self::Signaled { signal, core_dumped: false } => write!(f, "signal {signal}"),
            Self::Signaled { signal, core_dumped: true } => write!(f, "signal {signal} (core dumped)"),
            Self::OutOfMemory => f.write_str("signal KILL of the kernel, which ran out of memory"),
            Self::Unknown => f.write_str("unknown end"),
        }
    }
}
