//! `check`: validates the configuration, its plug-in files, models and memory. Needs no daemon.

use llama_warden_config::{ConfigProblems, Configuration};
use llama_warden_daemon::models::Inventory;
use llama_warden_daemon::{
    CommandFailure, CommandResult, Exit, Extensions, FailureMessage, LoadedConfig, print_warnings,
};
use llama_warden_detectors::Pack;
use llama_warden_dialects::Dialect;
use serde_json::json;

use super::models;
use super::up::searched;
use crate::args::GlobalArgs;
use crate::memory::MemoryReport;
use crate::output::{print_json, print_line};
use crate::plugin_files;

pub fn run(global: &GlobalArgs, extensions: &Extensions) -> CommandResult {
    let inventory = LoadedConfig::find(global.config.as_deref()).and_then(Inventory::scan);
    let checked = inventory.and_then(|inventory| {
        plugin_files::check::<Pack>(&inventory.loaded)?;
        plugin_files::check::<Dialect>(&inventory.loaded)?;
        Ok(inventory)
    });
    match checked {
        Ok(inventory) => report(global, extensions, &inventory),
        Err(CommandFailure { message: FailureMessage::Configuration(problems), .. }) if global.json => {
            print_json(&json!({ "valid": false, "problems": problems, "warnings": [], "not_in_force": [] }))?;
            Err(CommandFailure::silent(Exit::Usage))
        }
        Err(failure) => Err(failure),
    }
}

fn report(global: &GlobalArgs, extensions: &Extensions, inventory: &Inventory) -> CommandResult {
    let configuration = &inventory.loaded.configuration;
    let mut warnings = configuration.warnings();
    warnings.extend(configuration.unknown_extensions(&extensions.names()));
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
    let name = configuration
        .path()
        .map_or_else(|| format!("the built-in defaults{}", searched(false)), |path| path.display().to_string());
    print_line(format_args!("{name}: valid, {} configured", count_servers(configuration)))?;
    Ok(Exit::Done)
}

fn count_servers(configuration: &Configuration) -> String {
    match configuration.servers().count() {
        1 => "1 server".to_owned(),
        count => format!("{count} servers"),
    }
}
