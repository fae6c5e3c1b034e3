//! The common part of the commands about detector packs and flag dialects. None of them needs a daemon.

use std::path::Path;

use llama_warden_config::Configuration;
use llama_warden_daemon::{CommandFailure, Exit, LoadedConfig};
use llama_warden_detectors::Pack;
use llama_warden_dialects::Dialect;
use llama_warden_plugin_files::{PluginFile, PluginSet, PluginSetError, ScanResult};
use serde_json::{Map, Value, json};

use crate::args::GlobalArgs;
use crate::output::print_either;
use crate::table;

/// A kind of plug-in file, for people.
pub trait PluginKind: PluginFile {
    /// The configuration key of its directory.
    const KEY: &'static str;
    /// A pointer to the description of its format.
    const FORMAT: &'static str;

    /// Its configured directory.
    fn directory(configuration: &Configuration) -> Option<&Path>;
}

impl PluginKind for Pack {
    const KEY: &'static str = "readiness.detectors-dir";
    const FORMAT: &'static str = "`llama-warden schema detector` and docs/detectors.md describe the format";

    fn directory(configuration: &Configuration) -> Option<&Path> {
        configuration.detectors_dir()
    }
}

impl PluginKind for Dialect {
    const KEY: &'static str = "llama-server.dialects-dir";
    const FORMAT: &'static str = "`llama-warden schema dialect` and docs/dialects.md describe the format";

    fn directory(configuration: &Configuration) -> Option<&Path> {
        configuration.dialects_dir()
    }
}

/// Fails if the daemon would refuse a file of the configured directory.
pub fn check<F: PluginKind>(loaded: &LoadedConfig) -> Result<(), CommandFailure> {
    let refused = scan::<F>(loaded).refused;
    if refused.is_empty() {
        return Ok(());
    }
    let refused: Vec<_> = refused.iter().map(describe).collect();
    Err(CommandFailure::usage(refused.join("\nerror: "))
        .next_step(format!("fix the files, or take them out of {}", F::KEY)))
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
    refused.iter().for_each(|error| eprintln!("warning: {}", describe(error)));
    library
}

/// The plug-in file called `name`, or at that path: a name with a slash or the end `.toml` may be a path.
pub fn find<F: PluginKind>(global: &GlobalArgs, name: &str) -> Result<F, CommandFailure> {
    let library = load_set::<F>(&LoadedConfig::find(global.config.as_deref())?);
    if let Some(file) = library.get(name) {
        return Ok(file.clone());
    }
    if name.contains('/') || name.ends_with(".toml") {
        return read(&library, Path::new(name));
    }
    let known: Vec<_> = library.iter().map(F::name).collect();
    Err(CommandFailure::usage(format!("there is no {} `{name}`", F::KIND))
        .next_step(format!("name one of {}, or a file", known.join(", "))))
}

/// Reads a file that need not be in the configured directory, by the same rules.
pub fn read<F: PluginKind>(library: &PluginSet<F>, path: &Path) -> Result<F, CommandFailure> {
    library.read(path).map_err(|error| CommandFailure::failed(describe(&error)).next_step(F::FORMAT))
}

/// Prints every file, in order of precedence; `more` adds fields to its JSON.
pub fn list<F: PluginKind>(
    global: &GlobalArgs,
    more: impl Fn(&F, &mut Map<String, Value>),
) -> Result<Exit, CommandFailure> {
    let ScanResult { files: library, refused } = scan::<F>(&LoadedConfig::find(global.config.as_deref())?);
    let data: Vec<_> = library.iter().map(|file| with_metadata(file, &more)).collect();
    let row = |file: &F| {
        [file.name().to_owned(), file.fit().to_string(), file.origin().to_string(), file.description().to_owned()]
    };
    let header = [&*F::KIND.to_uppercase(), "FITS", "FROM", "DESCRIPTION"];
    print_either(global, &data, || table::plain(header, library.iter().map(row)))?;
    refused.iter().for_each(|error| eprintln!("error: {}", describe(error)));
    Ok(if refused.is_empty() { Exit::Done } else { Exit::Failed })
}

/// Prints the file called `name` as it is written; `more` adds fields to its JSON.
pub fn show<F: PluginKind>(
    global: &GlobalArgs,
    name: &str,
    more: impl Fn(&F, &mut Map<String, Value>),
) -> Result<Exit, CommandFailure> {
    let file = find(global, name)?;
    print_either(global, &with_metadata(&file, more), || file.text().trim_end().to_owned())
}

/// The metadata of a file as JSON, and what `more` adds.
fn with_metadata<F: PluginFile>(file: &F, more: impl Fn(&F, &mut Map<String, Value>)) -> Map<String, Value> {
    let fit = file.fit();
    let data = [
        ("name", file.name().into()),
        ("description", file.description().into()),
        ("file", json!(file.origin().path())),
        ("builds", json!(fit.builds.map(|builds| json!({ "min": builds.min, "max": builds.max })))),
        ("help_lists", json!(fit.help_lists)),
        ("help_lacks", json!(fit.help_lacks)),
    ];
    let mut data = data.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    more(file, &mut data);
    data
}

/// An error and its source.
fn describe(error: &PluginSetError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
