//! The actions that a script can schedule, and when they are performed. [`crate::actions`] performs them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{grandchild::Grandchild, output::Stream};

/// An action with the time at which it is performed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduledAction {
    /// The phase at whose beginning the time starts.
    pub at: ScriptPhase,
    /// Pause before the action, after the beginning of the phase or the previous action of the same phase.
    #[serde(default)]
    pub after_ms: u64,
    /// The action.
    #[serde(rename = "do")]
    pub action: ScriptAction,
}

/// The phases of a server's life at which actions can be scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptPhase {
    /// Before anything is printed or bound. The server waits for the actions.
    Start,
    /// At the beginning of the load, which continues meanwhile.
    Loading,
    /// After `/health` turned 200 and the ready line was printed. The server serves meanwhile.
    Ready,
    /// At the beginning of a graceful stop. The server waits for the actions before it exits.
    Stopping,
}

/// An action of a stand-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScriptAction {
    /// Prints a line without any prefix.
    Say {
        /// The text without its newline.
        text: String,
        /// The stream to which it is written.
        #[serde(default)]
        stream: Stream,
    },
    /// Writes bytes in one write.
    Bytes {
        /// The bytes.
        bytes: Vec<u8>,
        /// The stream to which it is written.
        #[serde(default)]
        stream: Stream,
    },
    /// Prints one long line.
    HugeLine {
        /// Length in MiB, without the newline.
        megabytes: u32,
        /// The stream to which it is written.
        #[serde(default)]
        stream: Stream,
    },
    /// Prints lines of 100 bytes as fast as the reader drains them.
    Flood {
        /// Total length in MiB.
        megabytes: u32,
        /// The stream to which it is written.
        #[serde(default)]
        stream: Stream,
    },
    /// Prints numbered lines to stderr at a fixed interval.
    Chat {
        /// Milliseconds between two lines.
        every_ms: u64,
        /// The number of lines.
        lines: u32,
    },
    /// Closes stdin, stdout and stderr.
    CloseStdio {},
    /// Sends SIGSTOP to itself.
    StopSelf {},
    /// Exits at once.
    Exit {
        /// The exit code.
        code: i32,
        /// Text for stderr before the end, without a newline.
        #[serde(default)]
        last_words: Option<String>,
    },
    /// Dies by the default action of a signal.
    Die {
        /// The name of the signal, such as `SIGSEGV`.
        signal: String,
        /// Allows a core dump: raises the soft limit to the hard one instead of lowering it to 0.
        #[serde(default)]
        core: bool,
        /// Text for stderr before the end, without a newline.
        #[serde(default)]
        last_words: Option<String>,
    },
    /// Starts grandchildren.
    Spawn(Grandchild),
    /// Replaces itself by another program with exec.
    Exec {
        /// The program and its arguments.
        argv: Vec<String>,
    },
    /// Writes what the process inherited to a file as JSON: `argv`, `env`, `fds`, `signals_blocked`,
    /// `signals_ignored`, `controlling_tty`, `pid`, `parent`, `group`, `session`, `directory`.
    Dump {
        /// The file, which is written in one step.
        path: PathBuf,
    },
    /// Allocates memory and writes to it.
    Eat {
        /// Size in MiB.
        megabytes: u32,
    },
    /// Starts children that exit at once and are never reaped.
    Zombies {
        /// The number of children.
        count: u32,
    },
}
