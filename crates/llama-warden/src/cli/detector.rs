//! `detector`: the packs that read output, and what they say of a build or a log. Needs no daemon.

pub mod args;
mod binary;
mod learn;
mod list;
mod log;
mod recorder;
mod rounds;
mod show;
mod test;
mod which;

use std::path::Path;

use llama_warden_readiness::{LibraryError, Pack, PackLibrary, Survey};
use serde_json::{Map, Value, json};

use super::args::Global;
use crate::exit::{Exit, Failure};
use crate::load::Loaded;
use args::DetectorCommand;

pub fn run(global: &Global, command: &DetectorCommand) -> Result<Exit, Failure> {
    match command {
        DetectorCommand::List => list::run(global),
        DetectorCommand::Show { name } => show::run(global, name),
        DetectorCommand::Which { binary } => super::on_runtime(which::run(global, binary)),
        DetectorCommand::Test(args) => test::run(global, args),
        DetectorCommand::Learn(args) => learn::run(global, args),
    }
}

/// Whether the daemon would take every pack of the configuration's directory.
pub fn check(loaded: &Loaded) -> Result<(), Failure> {
    let refused = survey_of(loaded).refused;
    if refused.is_empty() {
        return Ok(());
    }
    let refused: Vec<_> = refused.iter().map(describe).collect();
    Err(Failure::new(Exit::Usage, refused.join("\nerror: "))
        .next_step("mend the files, or take them out of readiness.detectors-dir"))
}

/// The packs of the configuration's directory and the built-in ones, with what was refused.
fn survey(global: &Global) -> Result<Survey, Failure> {
    Ok(survey_of(&Loaded::find(global.config.as_deref())?))
}

fn survey_of(loaded: &Loaded) -> Survey {
    let built_in = PackLibrary::built_in();
    match loaded.configuration.detectors_dir() {
        Some(directory) => built_in.survey(directory),
        None => Survey { library: built_in, refused: Vec::new() },
    }
}

/// What a pack is, as data, without what it says.
fn described(pack: &Pack) -> Map<String, Value> {
    let mut data = Map::new();
    data.insert("name".to_owned(), pack.name().into());
    data.insert("description".to_owned(), pack.description().into());
    data.insert("file".to_owned(), json!(pack.origin().path()));
    data.insert(
        "builds".to_owned(),
        json!(pack.builds().map(|builds| json!({ "min": builds.min, "max": builds.max }))),
    );
    data.insert("help_lists".to_owned(), json!(pack.help_lists()));
    data.insert("help_lacks".to_owned(), json!(pack.help_lacks()));
    data
}

/// The same, told about what was refused.
fn library(global: &Global) -> Result<PackLibrary, Failure> {
    let Survey { library, refused } = survey(global)?;
    refused.iter().for_each(|error| eprintln!("warning: {}", describe(error)));
    Ok(library)
}

/// The pack of that name, or of that file: what has a slash or ends in `.toml` is a file.
fn pack(global: &Global, name: &str) -> Result<Pack, Failure> {
    let library = library(global)?;
    if let Some(pack) = library.get(name) {
        return Ok(pack.clone());
    }
    if name.contains('/') || name.ends_with(".toml") {
        return library.read(Path::new(name)).map_err(|error| {
            Failure::new(Exit::Failed, describe(&error))
                .next_step("`llama-warden schema detector` and docs/detectors.md describe the format")
        });
    }
    let known: Vec<_> = library.iter().map(Pack::name).collect();
    Err(Failure::new(Exit::Usage, format!("there is no detector pack `{name}`"))
        .next_step(format!("name one of {}, or a file", known.join(", "))))
}

/// An error with its source.
fn describe(error: &LibraryError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Where a pack comes from, for people.
fn origin(pack: &Pack) -> String {
    pack.origin().path().map_or_else(|| "built in".to_owned(), |path| path.display().to_string())
}
