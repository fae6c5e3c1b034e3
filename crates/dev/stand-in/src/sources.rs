//! Finds and merges the sources of a script: beside the program, beside the model, in the environment.

use std::{fmt, io, path::PathBuf};

use serde_json::{Map, Value};

use crate::{SCRIPT_VARIABLE, arguments::Arguments, script::Script};

/// The reason why a script cannot be used.
#[derive(Debug)]
pub(crate) enum ScriptError {
    Read { path: PathBuf, source: io::Error },
    Parse { from: String, source: serde_json::Error },
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, source } => write!(f, "cannot read the script {}: {source}", path.display()),
            Self::Parse { from, source } => write!(f, "cannot follow the script of {from}: {source}"),
        }
    }
}

/// Merges the sources in the order that the crate's documentation gives.
pub(crate) fn script_for(arguments: &Arguments) -> Result<Script, ScriptError> {
    let mut keys = Map::new();
    for subject in [arguments.program_path(), arguments.model()].into_iter().flatten() {
        let path = Script::sidecar(&subject);
        match std::fs::read_to_string(&path) {
            Ok(text) => keys.extend(parse(&path.display().to_string(), &text)?),
            // A path below a file instead of a folder: the check of the model reports it.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(source) => return Err(ScriptError::Read { path, source }),
        }
    }
    if let Some(value) = std::env::var_os(SCRIPT_VARIABLE) {
        let text = value.to_string_lossy();
        if text.trim_start().starts_with('{') {
            keys.extend(parse(SCRIPT_VARIABLE, &text)?);
        } else {
            let path = PathBuf::from(&value);
            let text = std::fs::read_to_string(&path).map_err(|source| ScriptError::Read { path, source })?;
            keys.extend(parse(SCRIPT_VARIABLE, &text)?);
        }
    }
    serde_json::from_value(Value::Object(keys))
        .map_err(|source| ScriptError::Parse { from: "all sources".into(), source })
}

/// Checks one source before it is merged, so that an error names the source.
fn parse(from: &str, text: &str) -> Result<Map<String, Value>, ScriptError> {
    let failed = |source| ScriptError::Parse { from: from.to_owned(), source };
    serde_json::from_str::<Script>(text).map_err(failed)?;
    serde_json::from_str(text).map_err(failed)
}
