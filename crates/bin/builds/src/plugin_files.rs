//! The common part of the commands about detector packs and flag dialects. None of them needs a daemon.

use std::path::Path;

use llama_warden_config::Configuration;
use llama_warden_detectors::{Pack, ProbeWay};
use llama_warden_dialects::Dialect;
use llama_warden_exit::{CommandFailure, CommandResult, Exit, with_source};
use llama_warden_inventory::LoadedConfig;
use llama_warden_plugin_files::{PluginFile, PluginSet, ScanResult};
use serde_json::{Value, json};

use llama_warden_terminal::output::{print_either, print_note};
use llama_warden_terminal::table::{self, shrinks, whole};

/// A kind of plug-in file, for people.
pub trait PluginKind: PluginFile {
    /// The configuration key of its directory.
    const KEY: &'static str;
    /// A pointer to the description of its format.
    const FORMAT: &'static str;

    /// Its configured directory.
    fn directory(configuration: &Configuration) -> Option<&Path>;

    /// What `list` adds to the JSON of the metadata.
    fn counts(&self) -> Value;

    /// What `show` adds to the JSON of the metadata.
    fn content(&self) -> Value;
}

impl PluginKind for Pack {
    const KEY: &'static str = "readiness.detectors-dir";
    const FORMAT: &'static str =
        "`llama-warden schema detector` describes the format, and `llama-warden detector show generic` is an example";

    fn directory(configuration: &Configuration) -> Option<&Path> {
        configuration.detectors_dir()
    }

    fn counts(&self) -> Value {
        json!({ "patterns": self.patterns().len(), "examples": self.examples().len() })
    }

    fn content(&self) -> Value {
        let probe = match self.probe() {
            ProbeWay::Http { path } => json!({ "path": path }),
            ProbeWay::None => json!("none"),
        };
        let patterns = self.patterns().iter().map(|pattern| {
            let stream: &str = pattern.stream.into();
            json!({
                "verdict": pattern.verdict.as_str(),
                "stream": stream,
                "regex": pattern.regex,
                "reason": pattern.reason,
                "weak": pattern.weak,
                "loads": pattern.loads,
            })
        });
        let structured = self.structured().iter().map(|source| <&str>::from(*source));
        json!({
            "probe": probe,
            "structured": structured.collect::<Vec<_>>(),
            "patterns": patterns.collect::<Vec<_>>(),
            "examples": self.examples(),
        })
    }
}

impl PluginKind for Dialect {
    const KEY: &'static str = "llama-server.dialects-dir";
    const FORMAT: &'static str = "`llama-warden schema dialect` describes the format, and `llama-warden dialect show llama-server` is an example";

    fn directory(configuration: &Configuration) -> Option<&Path> {
        configuration.dialects_dir()
    }

    fn counts(&self) -> Value {
        json!({ "rules": self.rule_count(), "examples": self.example_count() })
    }

    fn content(&self) -> Value {
        json!({ "text": self.text() })
    }
}

/// The files of the configured directory that the daemon would refuse, as errors with a next step.
pub fn refused<F: PluginKind>(loaded: &LoadedConfig) -> Vec<String> {
    let next = |error: String| format!("{error}\n  next: fix the file, or take it out of {}", F::KEY);
    scan::<F>(loaded).refused.iter().map(|error| next(with_source(error))).collect()
}

/// The files of the configured directory and the built-in ones, and the errors of refused files.
pub fn scan<F: PluginKind>(loaded: &LoadedConfig) -> ScanResult<F> {
    let built_in = PluginSet::built_in();
    match F::directory(&loaded.configuration) {
        Some(directory) => built_in.scan(directory),
        None => ScanResult { files: built_in, refused: Vec::new() },
    }
}

/// The files of the configured directory and the built-in ones. Prints a warning for each refused file.
pub fn load_set<F: PluginKind>(loaded: &LoadedConfig) -> PluginSet<F> {
    let ScanResult { files: library, refused } = scan(loaded);
    refused.iter().for_each(|error| print_note(format_args!("warning: {}", with_source(error))));
    library
}

/// The plug-in file called `name`, or at that path: a name with a slash or the end `.toml` may be a path.
pub fn find<F: PluginKind>(config: Option<&Path>, name: &str) -> Result<F, CommandFailure> {
    let library = load_set::<F>(&LoadedConfig::find(config)?);
    if let Some(file) = library.get(name) {
        return Ok(file.clone());
    }
    if name.contains('/') || name.ends_with(".toml") {
        return read(&library, Path::new(name));
    }
    Err(CommandFailure::unknown_name(F::KIND, name, library.iter().map(F::name), F::FORMAT))
}

/// Reads a file that need not be in the configured directory, by the same rules.
pub fn read<F: PluginKind>(library: &PluginSet<F>, path: &Path) -> Result<F, CommandFailure> {
    library.read(path).map_err(|error| CommandFailure::failed(with_source(&error)).next_step(F::FORMAT))
}

/// Prints every file, in order of precedence.
pub fn list<F: PluginKind>(config: Option<&Path>, json: bool) -> CommandResult {
    let ScanResult { files: library, refused } = scan::<F>(&LoadedConfig::find(config)?);
    let data: Vec<_> = library.iter().map(|file| with_metadata(file, file.counts())).collect();
    let row = |file: &F| {
        [file.name().to_owned(), file.fit().to_string(), file.origin().to_string(), file.description().to_owned()]
    };
    let columns = [whole("NAME"), shrinks("FITS", 24), shrinks("FROM", 10), shrinks("DESCRIPTION", 16)];
    print_either(json, &data, || table::list(columns, library.iter().map(row)))?;
    refused.iter().for_each(|error| print_note(format_args!("error: {}", with_source(error))));
    Ok(if refused.is_empty() { Exit::Done } else { Exit::Failed })
}

/// Prints the file called `name` as it is written.
pub fn show<F: PluginKind>(config: Option<&Path>, json: bool, name: &str) -> CommandResult {
    let file: F = find(config, name)?;
    print_either(json, &with_metadata(&file, file.content()), || file.text().trim_end().to_owned())
}

/// The metadata of a file as JSON, and the fields of `more`.
fn with_metadata<F: PluginFile>(file: &F, more: Value) -> Value {
    let fit = file.fit();
    let mut data = json!({
        "name": file.name(),
        "description": file.description(),
        "file": file.origin().path(),
        "builds": fit.builds.map(|builds| json!({ "min": builds.min, "max": builds.max })),
        "help_lists": fit.help_lists,
        "help_lacks": fit.help_lacks,
    });
    if let (Value::Object(data), Value::Object(more)) = (&mut data, more) {
        data.extend(more);
    }
    data
}
