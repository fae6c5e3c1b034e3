//! Finds and merges the sources of a script: beside the program, beside the model, in the environment.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use crate::{SCRIPT_VARIABLE, arguments::Arguments, script::Script};

/// Merges the sources in the order that the crate's documentation gives.
pub(crate) fn script_for(arguments: &Arguments) -> Result<Script, String> {
    let mut keys = Map::new();
    for subject in [arguments.program_path(), arguments.model()].into_iter().flatten() {
        let path = Script::sidecar(&subject);
        match std::fs::read_to_string(&path) {
            Ok(text) => keys.extend(parse(&path.display().to_string(), &text)?),
            // A path below a file instead of a folder: the check of the model reports it.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err(unreadable(&path, &error)),
        }
    }
    if let Some(value) = std::env::var_os(SCRIPT_VARIABLE) {
        let mut text = value.to_string_lossy().into_owned();
        if !text.trim_start().starts_with('{') {
            let path = PathBuf::from(&value);
            text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        }
        keys.extend(parse(SCRIPT_VARIABLE, &text)?);
    }
    serde_json::from_value(Value::Object(keys)).map_err(|error| invalid("all sources", &error))
}

/// Checks one source before it is merged, so that an error names the source.
fn parse(from: &str, text: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str::<Script>(text).map_err(|error| invalid(from, &error))?;
    serde_json::from_str(text).map_err(|error| invalid(from, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("cannot read the script {}: {error}", path.display())
}

fn invalid(from: &str, error: &serde_json::Error) -> String {
    format!("cannot follow the script of {from}: {error}")
}
