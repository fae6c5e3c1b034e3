//! Finds a server's script: beside the program, beside the model, in the environment.

use std::{fmt, io, path::PathBuf};

use serde_json::{Map, Value};

use crate::{SCRIPT_VARIABLE, arguments::Arguments, script::Script};

/// Why there is no script, or not one that can be followed.
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

/// Lays the sources over one another. See the crate's documentation for their order.
pub(crate) fn script_for(arguments: &Arguments) -> Result<Script, ScriptError> {
    let mut keys = Map::new();
    for subject in [arguments.program_path(), arguments.model()].into_iter().flatten() {
        let path = Script::sidecar(&subject);
        match std::fs::read_to_string(&path) {
            Ok(text) => keys.extend(parse(&path.display().to_string(), &text)?),
            // A model below a file instead of a folder is for the model check to report.
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

/// Checked alone before it is merged, so that an error names the source.
fn parse(from: &str, text: &str) -> Result<Map<String, Value>, ScriptError> {
    let failed = |source| ScriptError::Parse { from: from.to_owned(), source };
    serde_json::from_str::<Script>(text).map_err(failed)?;
    serde_json::from_str(text).map_err(failed)
}
