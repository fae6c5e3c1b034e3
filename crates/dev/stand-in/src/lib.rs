//! A scripted llama-server double that replays recorded behaviour and misbehaves on demand.
//!
//! Without a script it behaves like build b11669: the same options, lines, endpoints, failures and ways to die, with
//! a model file whose header it reads and no model in memory. A [`Script`] makes it older ([`Era`]), slower or bad.
//! It needs no runtime and starts within a millisecond or two, so that it can live inside another program, which
//! calls [`main`] when its `argv[0]` says so.
//!
//! # Where a script comes from
//! Three JSON objects are laid over one another, key by key, the later winning:
//! 1. `<program>.stand-in.json` beside the file that `argv[0]` names with a slash: for `--version` and `--help`;
//! 2. `<model>.stand-in.json` beside the model: for one server, through a supervisor that scrubs the environment;
//! 3. the environment variable `STAND_IN_SCRIPT`: a path, or the JSON itself.
//!
//! A script that cannot be read ends the program with exit code 64, and the reason on stderr.
//!
//! ```
//! use llama_warden_stand_in::{ScheduledAction, ScriptAction, Era, ScriptPhase, Script};
//!
//! let json = r#"{
//!     "era": "2025-08", "load_ms": 300, "health": {"flap": [[0, 200], [500, 503]]},
//!     "acts": [{"at": "ready", "after_ms": 10, "do": {"exit": {"code": 3, "last_words": "oops"}}}]
//! }"#;
//! let script: Script = serde_json::from_str(json)?;
//! assert_eq!(script.era, Era::August2025);
//! assert!(matches!(script.actions[0], ScheduledAction { at: ScriptPhase::Ready, action: ScriptAction::Exit { code: 3, .. }, .. }));
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # What keeps it harmless
//! An alarm clock of the kernel ends it after [`Script::max_life_s`], also when it ignores every signal that can be
//! ignored or has become another program. Grandchildren have such a clock of at most 60 s. (A stopped process hears
//! its clock only when it is continued.)

mod actions;
mod arguments;
mod completions;
mod connection;
mod dump;
mod ending;
mod eras;
mod grandchild;
mod health;
mod help;
mod lines;
mod listener;
mod log;
mod metrics;
mod model_file;
mod options;
mod output;
mod renames;
mod replay;
mod routes;
mod script;
mod serve;
mod settings;
mod signals;
mod sources;
mod state;

use std::{ffi::OsString, process::ExitCode};

pub use eras::Era;
pub use grandchild::Grandchild;
pub use output::Stream;
pub use renames::Renames;
pub use script::{
    HealthScript, LineStyle, LoadProgress, ReadyLine, Replay, ScheduledAction, Script, ScriptAction, ScriptPhase,
    TermScript, Wedge,
};

/// The environment variable that names a script, or holds one.
pub const SCRIPT_VARIABLE: &str = "STAND_IN_SCRIPT";

/// Runs the stand-in with the arguments of a process, the program's name first. It returns only where llama-server
/// ends before it serves: after `--help`, `--version`, or a bad argument.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let inherited = dump::Inherited::capture();
    if let Some(code) = grandchild::run_if_asked(&args) {
        return code;
    }
    let arguments = arguments::Arguments::split(&args);
    let script = match sources::script_for(&arguments) {
        Ok(script) => script,
        Err(error) => {
            output::write_text(Stream::Stderr, &format!("stand-in: {error}\n"));
            return ExitCode::from(64);
        }
    };
    match settings::Invocation::parse(script.era, &script.renames, &arguments) {
        Ok(settings::Invocation::Version) => help::version(script.era),
        Ok(settings::Invocation::Help) => help::help(script.era, &script.renames),
        Ok(settings::Invocation::Serve(settings)) => serve::run(script, settings, inherited),
        Err(error) => error.report(script.era, &script.renames),
    }
}
