//! The script: what the stand-in is changed to do, as data.
//!
//! Every key is optional, unknown keys are errors, and all keys combine. Times are milliseconds unless a name says
//! otherwise.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{eras::Era, grandchild::Grandchild, output::Stream, renames::Renames};

/// What the stand-in does beyond the well-behaved server that [`Script::default`] describes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// The build to imitate.
    pub era: Era,
    /// Options that it calls otherwise than that build.
    pub renames: Renames,
    /// The kernel ends the process after this many seconds; at least 1.
    pub max_life_s: u32,
    /// How long the load argument.
    pub load_ms: u64,
    /// What is printed while the load goes on.
    pub load_progress: LoadProgress,
    /// Nothing is printed: no line of the server's own.
    pub silent: bool,
    /// No socket is ever bound; the rest goes on as if.
    pub never_bind: bool,
    /// The port is shared (SO_REUSEPORT), also where the era does not.
    pub reuse_port: bool,
    /// How `/health` answers once the load is over.
    pub health: HealthScript,
    /// When the ready line comes.
    pub ready_line: ReadyLine,
    /// How the ready line is written.
    #[serde(rename = "ready_dress")]
    pub ready_style: LineStyle,
    /// How TERM and INT are taken.
    pub term: TermScript,
    /// A file that holds the number of TERMs received so far, beginning with 0.
    pub term_count_file: Option<PathBuf>,
    /// The id in `/v1/models`, in place of the alias or path.
    pub model_id: Option<String>,
    /// The `model_path` in `/props`, in place of the real one.
    pub model_path: Option<String>,
    /// What completions do.
    pub wedge: Wedge,
    /// The pause between two generated tokens.
    pub token_ms: u64,
    /// A transcript whose lines and timing replace the server's own.
    pub replay: Option<Replay>,
    /// Deeds at moments, those of one moment in this order.
    #[serde(rename = "acts")]
    pub actions: Vec<ScheduledAction>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            era: Era::default(),
            renames: Renames::default(),
            max_life_s: 600,
            load_ms: 0,
            load_progress: LoadProgress::default(),
            silent: false,
            never_bind: false,
            reuse_port: false,
            health: HealthScript::default(),
            ready_line: ReadyLine::default(),
            ready_style: LineStyle::default(),
            term: TermScript::default(),
            term_count_file: None,
            model_id: None,
            model_path: None,
            wedge: Wedge::default(),
            token_ms: 20,
            replay: None,
            actions: Vec::new(),
        }
    }
}

impl Script {
    /// The file beside `subject` (a model, or a program) in which a script for it is looked for.
    pub fn sidecar(subject: &Path) -> PathBuf {
        let mut name = subject.as_os_str().to_owned();
        name.push(".stand-in.json");
        name.into()
    }

    /// Writes the script beside `subject`.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub fn write_beside(&self, subject: &Path) -> io::Result<()> {
        std::fs::write(Self::sidecar(subject), self.to_json())
    }

    /// The script as JSON, with the keys that differ from the default.
    pub fn to_json(&self) -> String {
        let default = keys(&Self::default());
        let changed: Map<String, Value> =
            keys(self).into_iter().filter(|(key, value)| default.get(key) != Some(value)).collect();
        Value::Object(changed).to_string()
    }

    /// Whether a grandchild is to inherit the listening socket.
    pub(crate) fn keeps_port(&self) -> bool {
        self.actions
            .iter()
            .any(|scheduled| matches!(&scheduled.action, ScriptAction::Spawn(grandchild) if grandchild.hold_port))
    }

    /// The actions of `moment`, in order.
    pub(crate) fn actions_at(&self, phase: ScriptPhase) -> Vec<ScheduledAction> {
        self.actions.iter().filter(|action| action.at == phase).cloned().collect()
    }
}

fn keys(script: &Script) -> Map<String, Value> {
    match serde_json::to_value(script) {
        Ok(Value::Object(keys)) => keys,
        // A struct of plain fields with text keys always becomes an object.
        _ => Map::new(),
    }
}

/// What is printed during a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadProgress {
    /// Dots where the era prints them, else nothing.
    #[default]
    Era,
    /// Dots without a newline, up to a hundred.
    Dots,
    /// Ten lines "loading 10 %".
    Lines,
    /// Nothing.
    None,
}

/// How `/health` answers once the load is over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthScript {
    /// As the era does.
    #[default]
    Era,
    /// With this status, also during the load.
    Status(u16),
    /// With the status of the last pair whose time since the end of the load is over: `[[0, 200], [500, 503]]`.
    Flap(Vec<(u64, u16)>),
    /// Never: the connection stays open.
    Hang,
    /// With 200 after this long.
    Delay(u64),
    /// One byte a second.
    Trickle,
    /// With a body that never ends.
    EndlessBody,
    /// With a header of this many megabytes.
    HugeHeader(u32),
    /// With a redirect to this address.
    Redirect(String),
}

/// When the ready line comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadyLine {
    /// At the end of the load.
    #[default]
    Once,
    /// At the beginning of the load, and not again.
    Early,
    /// Twice at the end of the load.
    Twice,
    /// At the end of the load, and again after a stop began.
    AgainWhenStopping,
    /// Not at all.
    Never,
}

/// How the ready line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineStyle {
    /// As the era does.
    #[default]
    Plain,
    /// One byte a write.
    Bytes,
    /// With colours, as `--log-colors on` has them.
    Ansi,
    /// Ended by CR and LF.
    CarriageReturn,
    /// After a line of NUL bytes, and with one at its end.
    Nul,
    /// After a line that is not UTF-8.
    NotUtf8,
}

/// How TERM and INT are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TermScript {
    /// As the era does.
    #[default]
    Era,
    /// Not at all, from the start of the process on.
    Ignore,
    /// Gracefully, but it takes this long.
    Slow(u64),
    /// With this exit code, at once.
    Code(i32),
}

/// What completions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wedge {
    /// They answer.
    #[default]
    None,
    /// They hang, and the processor is idle.
    Idle,
    /// They hang, and one processor is busy.
    Busy,
}

/// A transcript to replay: the lines of its stdout and stderr at their times. The recorded port and model become
/// ours. `/health` turns 200 when the recorded one does (else at the last line before the stop), the replay ends at
/// the first recorded signal, and a recorded exit is repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// The `.jsonl` file.
    pub path: PathBuf,
    /// Recorded times are multiplied by this; 0 replays at once. The default is 1.
    #[serde(default = "unscaled")]
    pub scale: f64,
}

fn unscaled() -> f64 {
    1.0
}

/// A action at a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduledAction {
    /// When.
    pub at: ScriptPhase,
    /// How long after that moment, or after the action before it in the same moment.
    #[serde(default)]
    pub after_ms: u64,
    /// What.
    #[serde(rename = "do")]
    pub action: ScriptAction,
}

/// The moments of a server's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptPhase {
    /// Before anything is printed or bound; the server waits for the actions.
    Start,
    /// When the load begins; the load goes on meanwhile.
    Loading,
    /// When `/health` has become 200 and the ready line is out; serving goes on meanwhile.
    Ready,
    /// After a graceful stop began; the server waits for the actions before it exits.
    Stopping,
}

/// What can be done at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ScriptAction {
    /// Prints a line, as it is.
    Say {
        /// The text without its newline.
        text: String,
        /// Where to.
        #[serde(default)]
        stream: Stream,
    },
    /// Writes bytes in one write.
    Bytes {
        /// The bytes.
        bytes: Vec<u8>,
        /// Where to.
        #[serde(default)]
        stream: Stream,
    },
    /// Prints one line of this many megabytes.
    HugeLine {
        /// Megabytes before the newline.
        megabytes: u32,
        /// Where to.
        #[serde(default)]
        stream: Stream,
    },
    /// Prints lines of 100 bytes as fast as the reader takes them.
    Flood {
        /// Megabytes in all.
        megabytes: u32,
        /// Where to.
        #[serde(default)]
        stream: Stream,
    },
    /// Prints numbered lines at a pace.
    Chat {
        /// The pause between two lines.
        every_ms: u64,
        /// How many lines.
        lines: u32,
    },
    /// Lets go of stdin, stdout and stderr.
    CloseStdio {},
    /// SIGSTOP to itself.
    StopSelf {},
    /// Exits.
    Exit {
        /// The exit code.
        code: i32,
        /// Written to stderr before, without a newline.
        #[serde(default)]
        last_words: Option<String>,
    },
    /// Dies of a signal by its default action.
    Die {
        /// The name, as `SIGSEGV`.
        signal: String,
        /// Whether a core may be dumped: the soft limit is raised to the hard one, else lowered to zero.
        #[serde(default)]
        core: bool,
        /// Written to stderr before, without a newline.
        #[serde(default)]
        last_words: Option<String>,
    },
    /// Starts grandchildren.
    Spawn(Grandchild),
    /// Becomes another program.
    Exec {
        /// The program, then its arguments.
        argv: Vec<String>,
    },
    /// Writes what the process inherited to a file as JSON: `argv`, `env`, `fds`, `signals_blocked`,
    /// `signals_ignored`, `controlling_tty`, `pid`, `parent`, `group`, `session`, `directory`.
    Dump {
        /// The file; it appears whole.
        path: PathBuf,
    },
    /// Takes memory and touches it.
    Eat {
        /// Megabytes.
        megabytes: u32,
    },
    /// Starts children that end at once and are never waited for.
    Zombies {
        /// How many.
        count: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_survives_its_json_and_shows_only_what_differs() {
        let script = Script {
            load_ms: 7,
            health: HealthScript::Flap(vec![(0, 200), (50, 503)]),
            actions: vec![
                ScheduledAction {
                    at: ScriptPhase::Ready,
                    after_ms: 10,
                    action: ScriptAction::Exit { code: 3, last_words: None },
                },
                ScheduledAction { at: ScriptPhase::Start, after_ms: 0, action: ScriptAction::CloseStdio {} },
            ],
            ..Script::default()
        };
        let json = script.to_json();
        assert_eq!(serde_json::from_str::<Script>(&json).unwrap(), script);
        assert!(!json.contains("max_life_s"), "{json}");
        assert_eq!(Script::default().to_json(), "{}");
    }

    #[test]
    fn unknown_keys_are_refused_at_every_level() {
        for bad in [
            r#"{"lode_ms": 1}"#,
            r#"{"acts": [{"at": "ready", "do": {"exit": {"code": 1, "sinal": 2}}}]}"#,
            r#"{"acts": [{"at": "ready", "afterms": 1, "do": {"close_stdio": {}}}]}"#,
            r#"{"acts": [{"at": "ready", "do": {"spawn": {"cout": 2}}}]}"#,
        ] {
            assert!(serde_json::from_str::<Script>(bad).is_err(), "{bad}");
        }
    }
}
