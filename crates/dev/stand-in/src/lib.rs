//! A scripted double of llama-server, for tests: it imitates recorded builds and misbehaves on demand.
//!
//! Without a script it behaves like build b11669: the same options, log lines, endpoints, failures and reactions to signals.
//! It reads the header of the model file and holds no model in memory. A [`Script`] selects an older build ([`Era`]), a slower
//! load, or a misbehaviour. It needs no async runtime and starts within two milliseconds, so that llama-warden can contain it
//! for its demo and call [`main`] when its `argv[0]` asks for it.
//!
//! # Sources of a script
//! Three JSON objects are merged key by key; a later one wins:
//! 1. `<program>.stand-in.json` beside the program, if `argv[0]` is a path: this one also applies to `--version` and `--help`;
//! 2. `<model>.stand-in.json` beside the model: for one server, under a supervisor that does not pass the environment on;
//! 3. the environment variable `STAND_IN_SCRIPT`: a path, or the JSON itself.
//!
//! If a script cannot be read, the program prints the reason to stderr and exits with 64.
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
//! let ScheduledAction { at, action, .. } = &script.actions[0];
//! assert_eq!(*at, ScriptPhase::Ready);
//! assert!(matches!(action, ScriptAction::Exit { code: 3, .. }));
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Limited lifetime
//! `alarm(2)` ends the process after [`Script::max_life_s`], also if it ignores all other signals or has called exec.
//! Grandchildren have an alarm of at most 60 s. A process stopped by SIGSTOP ends only after it is continued.

mod actions;
mod arguments;
mod body_digest;
mod completions;
mod connection;
mod dump;
mod ending;
mod grandchild;
mod health;
mod help;
mod lines;
mod listener;
mod log;
mod metrics;
mod model_file;
mod output;
mod replay;
mod resumable;
mod routes;
mod schedule;
mod script;
mod serve;
mod settings;
mod signals;
mod slots;
mod sources;
mod state;
mod wire;

use std::{ffi::OsString, process::ExitCode};

pub use body_digest::BodyDigest;
pub use grandchild::Grandchild;
pub use llama_warden_recorded_builds::eras::Era;
pub use llama_warden_recorded_builds::renames::Renames;
use llama_warden_recorded_builds::{eras, options, renames};
pub use output::Stream;
pub use schedule::{ScheduledAction, ScriptAction, ScriptPhase};
pub use script::{
    HealthScript, LineStyle, LoadProgress, ReadyLine, Replay, Script, SlotAnswer, SlotsScript, TermScript, Wedge,
    WireFault,
};

/// The environment variable that contains a script, or the path of one.
pub const SCRIPT_VARIABLE: &str = "STAND_IN_SCRIPT";

/// Runs the stand-in with the arguments of a process, including the program's name. It returns only if it does not serve:
/// after `--help`, `--version`, an invalid argument or an invalid script.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    // First of all, before anything here opens a file.
    let inherited = dump::Inherited::capture();
    if let Some(code) = grandchild::run_if_asked(&args) {
        return code;
    }
    let arguments = arguments::Arguments::split(&args);
    let script = match sources::script_for(&arguments) {
        Ok(script) => script,
        Err(error) => {
            output::write(Stream::Stderr, format!("stand-in: {error}\n"));
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
