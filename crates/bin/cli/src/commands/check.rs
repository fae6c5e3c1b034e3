//! `check`: validates the configuration, its plug-in files, command lines, models and memory. Needs no daemon.

use llama_warden_config::{ConfigProblems, Configuration, Severity};
use llama_warden_daemon::models::Inventory;
use llama_warden_daemon::{
    CommandFailure, CommandResult, Exit, Extensions, FailureMessage, LoadedConfig, print_warnings,
};
use llama_warden_detectors::Pack;
use llama_warden_dialects::Dialect;
use serde_json::json;

use super::models;
use crate::args::GlobalArgs;
use crate::memory::MemoryReport;
use crate::option_check;
use crate::output::{print_json, print_line};
use crate::plugin_files;

pub async fn run(global: &GlobalArgs, extensions: &Extensions) -> CommandResult {
    let inventory = LoadedConfig::find(global.config.as_deref()).and_then(Inventory::scan);
    let checked = inventory.and_then(|inventory| {
        plugin_files::check::<Pack>(&inventory.loaded)?;
        plugin_files::check::<Dialect>(&inventory.loaded)?;
        Ok(inventory)
    });
    let checked = match checked {
        Ok(inventory) => report(global, extensions, &inventory).await,
        Err(failure) => Err(failure),
    };
    match checked {
        Err(CommandFailure { message: FailureMessage::Configuration(problems), .. }) if global.json => {
            print_json(&json!({ "valid": false, "problems": problems, "warnings": [], "not_in_force": [] }))?;
            Err(CommandFailure::silent(Exit::Usage))
        }
        checked => checked,
    }
}

async fn report(global: &GlobalArgs, extensions: &Extensions, inventory: &Inventory) -> CommandResult {
    let configuration = &inventory.loaded.configuration;
    let mut warnings = configuration.warnings();
    warnings.extend(configuration.unknown_extensions(&extensions.names()));
    let options = option_check::problems(inventory).await?;
    let (errors, doubts): (Vec<_>, Vec<_>) =
        options.into_iter().partition(|problem| problem.severity == Severity::Error);
    if !errors.is_empty() {
        if !global.json {
            print_warnings(warnings);
            print_warnings(doubts);
        }
        return Err(ConfigProblems(errors).into());
    }
    warnings.extend(doubts);
    let memory = MemoryReport::of(&inventory.loaded);
    if global.json {
        print_json(&json!({
            "valid": true,
            "problems": [],
            "warnings": ConfigProblems(warnings),
            "not_in_force": [],
            "models": inventory.models,
            "memory": memory,
        }))?;
        return Ok(Exit::Done);
    }
    print_warnings(warnings);
    models::report_problems(&inventory.models);
    for warning in memory.iter().flat_map(MemoryReport::warnings) {
        eprintln!("warning: {warning}");
    }
    let name = configuration.path().map_or_else(
        || "no configuration file was found; the built-in defaults".to_owned(),
        |path| path.display().to_string(),
    );
    print_line(format_args!("{name}: valid, {} configured", count_servers(configuration)))?;
    Ok(Exit::Done)
}

fn count_servers(configuration: &Configuration) -> String {
    match configuration.servers().count() {
        1 => "1 server".to_owned(),
        count => format!("{count} servers"),
    }
}
