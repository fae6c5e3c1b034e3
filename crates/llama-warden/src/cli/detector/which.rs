//! `detector which`: the pack and the dialect that a build gets, and why.

use std::path::Path;

use llama_warden_launcher::{BinaryProfile, CommandLine, Dialect, plan};
use llama_warden_readiness::Choice;
use serde_json::json;

use super::{binary, library, origin};
use crate::cli::args::Global;
use crate::cli::{print_json, print_line};
use crate::exit::{Exit, Failure};

/// Any port and model: nothing is started.
const PORT: u16 = 8001;
const MODEL: &str = "/model.gguf";

pub async fn run(global: &Global, binary: &Path) -> Result<Exit, Failure> {
    let library = library(global)?;
    let binary = binary::locate(binary)?;
    let spec = binary::server("which", &binary, Path::new(MODEL), PORT)?;
    let profile = binary::ask(&spec).await?;
    let choice = library.choose(profile.version.build, &profile.option_names(), None);
    let choice = choice.ok_or_else(|| Failure::new(Exit::Failed, "there is no detector pack at all"))?;
    let dialect = Dialect::built_in().map_err(|error| Failure::new(Exit::Failed, error))?;
    let line = plan(&spec, &profile, &dialect).map_err(|error| Failure::new(Exit::Failed, error))?;
    show(global, &profile, &choice, &dialect, &line)
}

fn show(
    global: &Global,
    profile: &BinaryProfile,
    choice: &Choice,
    dialect: &Dialect,
    line: &CommandLine,
) -> Result<Exit, Failure> {
    let build = profile.version.short_name();
    let options = profile.option_names().len();
    let because = format!("its rules go by the {options} options that this build's help lists");
    if global.json {
        print_json(&json!({
            "binary": profile.path,
            "build": build,
            "options": options,
            "detector": { "name": choice.pack.name(), "file": choice.pack.origin().path(), "because": choice.because },
            "dialect": { "name": dialect.name(), "because": because, "defaults": line.notes },
        }))?;
        return Ok(Exit::Done);
    }
    print_line(format!("binary    {}", profile.path.display()))?;
    print_line(format!("build     {}", build.unwrap_or_else(|| "its version names none".to_owned())))?;
    print_line(format!("detector  {} ({}): {}", choice.pack.name(), origin(&choice.pack), choice.because))?;
    print_line(format!("dialect   {} (built in): {because}", dialect.name()))?;
    for note in &line.notes {
        let spelled = if note.spelled.is_empty() { "nothing".to_owned() } else { note.spelled.join(" ") };
        print_line(format!("          {} -> {spelled}: {}", note.option, note.because))?;
    }
    Ok(Exit::Done)
}
