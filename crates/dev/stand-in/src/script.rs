//! The script of a stand-in: all its behaviour as data.
//!
//! Every key is optional and an unknown key is an error. All keys can be combined. Times are in milliseconds unless the name
//! says otherwise. The JSON keys are a contract with tests; three differ from the names of their fields: `acts`, `do` and
//! `ready_dress`.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    eras::Era,
    renames::Renames,
    schedule::{ScheduledAction, ScriptAction, ScriptPhase},
    wire::WireFault,
};

/// The behaviour of one stand-in. [`Script::default`] is a well-behaved server of build b11669.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// The build to imitate.
    pub era: Era,
    /// New names for options of that build.
    pub renames: Renames,
    /// The kernel ends the process with SIGALRM after this many seconds; at least 1.
    pub max_life_s: u32,
    /// Duration of the load.
    pub load_ms: u64,
    /// Output during the load.
    pub load_progress: LoadProgress,
    /// Print no log lines. Output of actions is still written.
    pub silent: bool,
    /// Never bind a socket, and continue as if it were bound.
    pub never_bind: bool,
    /// Bind the port with SO_REUSEPORT, also in eras that do not.
    pub reuse_port: bool,
    /// Responses of `/health` after the load.
    pub health: HealthScript,
    /// When the ready line is printed.
    pub ready_line: ReadyLine,
    /// Encoding of the ready line.
    #[serde(rename = "ready_dress")]
    pub ready_style: LineStyle,
    /// Reaction to TERM and INT.
    pub term: TermScript,
    /// A file to which the number of TERMs received so far is written, beginning with 0.
    pub term_count_file: Option<PathBuf>,
    /// The id in `/v1/models`, instead of the alias or path.
    pub model_id: Option<String>,
    /// The `model_path` in `/props`, instead of the real one.
    pub model_path: Option<String>,
    /// Misbehaviour of completions.
    pub wedge: Wedge,
    /// A completion whose body has this text ends the process with SIGSEGV, after the time of one token.
    pub poison: Option<String>,
    /// Faults of the connections of completions: the first one meets the first, and so on.
    pub faults: Vec<WireFault>,
    /// Completions are answered with a digest of their bodies, as long ones always are.
    pub digest_bodies: bool,
    /// The time per generated token.
    pub token_ms: u64,
    /// What slots hold, and how they are saved and restored; without it completions tell no tokens of a cache.
    pub slots: Option<SlotsScript>,
    /// A transcript to replay instead of the server's own lines and timing.
    pub replay: Option<Replay>,
    /// Scheduled actions. Those of one phase are performed in this order.
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
            poison: None,
            faults: Vec::new(),
            digest_bodies: false,
            token_ms: 20,
            slots: None,
            replay: None,
            actions: Vec::new(),
        }
    }
}

impl Script {
    /// The path of the script for `subject`, which is a model or a program.
    pub fn sidecar(subject: &Path) -> PathBuf {
        let mut name = subject.as_os_str().to_owned();
        name.push(".stand-in.json");
        name.into()
    }

    /// Writes the script for `subject`, a model or a program, to its [`Self::sidecar`].
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_beside(&self, subject: &Path) -> io::Result<()> {
        std::fs::write(Self::sidecar(subject), self.to_json())
    }

    /// The script as JSON, without keys that have their default value.
    pub fn to_json(&self) -> String {
        let default = keys(&Self::default());
        let changed: Map<String, Value> =
            keys(self).into_iter().filter(|(key, value)| default.get(key) != Some(value)).collect();
        Value::Object(changed).to_string()
    }

    /// Whether a grandchild inherits the listening socket.
    pub(crate) fn keeps_port(&self) -> bool {
        self.actions
            .iter()
            .any(|scheduled| matches!(&scheduled.action, ScriptAction::Spawn(grandchild) if grandchild.hold_port))
    }

    /// The actions of `phase`, in order.
    pub(crate) fn actions_at(&self, phase: ScriptPhase) -> Vec<ScheduledAction> {
        self.actions.iter().filter(|action| action.at == phase).cloned().collect()
    }
}

fn keys(script: &Script) -> Map<String, Value> {
    match serde_json::to_value(script) {
        Ok(Value::Object(keys)) => keys,
        // Unreachable: a struct serialises to an object.
        _ => Map::new(),
    }
}

/// Output during the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadProgress {
    /// Dots in eras that print them, else nothing.
    #[default]
    Era,
    /// A hundred dots, then a newline.
    Dots,
    /// Ten lines, from "loading 10 %" to "loading 100 %".
    Lines,
    /// No output.
    None,
}

/// Responses of `/health` after the load. During it the answer is 503, except for `Status`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthScript {
    /// As in the era.
    #[default]
    Era,
    /// This status, also during the load.
    Status(u16),
    /// Pairs of a time since the end of the load and a status: `[[0, 200], [500, 503]]` answers 503 after 500 ms.
    Flap(Vec<(u64, u16)>),
    /// No response; the connection stays open.
    Hang,
    /// 200 after this time.
    Delay(u64),
    /// 200, sent at one byte per second.
    Trickle,
    /// 200 with a body that never ends.
    EndlessBody,
    /// 200 with a header field of this many megabytes.
    HugeHeader(u32),
    /// 302 to this address.
    Redirect(String),
}

/// When the ready line is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadyLine {
    /// At the end of the load.
    #[default]
    Once,
    /// Once, at the beginning of the load.
    Early,
    /// Twice at the end of the load.
    Twice,
    /// At the end of the load, and again during a graceful stop.
    AgainWhenStopping,
    /// The ready line is never printed.
    Never,
}

/// Encoding of the ready line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineStyle {
    /// As in the era.
    #[default]
    Plain,
    /// One `write` per byte.
    Bytes,
    /// With colour escapes, as with `--log-colors on`.
    Ansi,
    /// Ends with CR LF.
    CarriageReturn,
    /// Follows a line of NUL bytes, and ends with one.
    Nul,
    /// Follows a line that is not UTF-8.
    NotUtf8,
}

/// Reaction to TERM and INT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TermScript {
    /// As in the era.
    #[default]
    Era,
    /// Ignore both, from the start of the process on.
    Ignore,
    /// Stop gracefully, which takes this time.
    Slow(u64),
    /// Exit at once with this code.
    Code(i32),
}

/// Misbehaviour of completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wedge {
    /// They are answered.
    #[default]
    None,
    /// They hang without using the processor.
    Idle,
    /// They hang while one thread computes.
    Busy,
    /// So many of them, the first ones, are answered as during the load.
    Loading(u32),
}

/// The only slot that holds anything. Every prompt continues the one before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlotsScript {
    /// The tokens of each prompt.
    pub prompt_tokens: u64,
    /// The bytes of a saved file.
    pub file_bytes: u64,
    /// The answer to a save.
    pub save: SlotAnswer,
    /// The answer to a restore.
    pub restore: SlotAnswer,
    /// Whether `/props` says that the server sleeps.
    pub is_sleeping: bool,
}

impl Default for SlotsScript {
    fn default() -> Self {
        Self {
            prompt_tokens: 300,
            file_bytes: 10_000,
            save: SlotAnswer::default(),
            restore: SlotAnswer::default(),
            is_sleeping: false,
        }
    }
}

/// How a save or a restore ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotAnswer {
    /// It works.
    #[default]
    Works,
    /// It answers 400.
    Refuse,
    /// It does what it should and never answers.
    Hang,
    /// The process aborts.
    Abort,
    /// A save writes half of the file, and a restore changes nothing; each answers as if it had worked.
    Pretend,
    /// It answers that there are no tokens.
    Empty,
}

/// A transcript to replay: its lines of stdout and stderr at their recorded times, with the recorded port and model replaced
/// by those of this process. `/health` turns 200 when the recorded one did, else at the last line before the stop. The replay
/// ends at the first recorded signal; a recorded exit ends this process in the same way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// The transcript, a `.jsonl` file.
    pub path: PathBuf,
    /// Factor for the recorded times, 0 to 1000; 0 replays without pauses. The default is 1.
    #[serde(default = "unscaled")]
    pub scale: f64,
}

fn unscaled() -> f64 {
    1.0
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
