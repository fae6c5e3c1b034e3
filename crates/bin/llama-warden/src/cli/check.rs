//! `check`: is the configuration right?

use llama_warden_config::{ConfigProblems, Configuration};
use llama_warden_launcher::Dialect;
use llama_warden_readiness::Pack;
use serde_json::json;

use super::args::Global;
use super::memory::MemoryReport;
use super::{data_files, models, print_json, print_line};
use crate::exit::{Exit, Failure, Told};
use crate::load::{self, Loaded};
use crate::models::Inventory;

pub fn run(global: &Global) -> Result<Exit, Failure> {
    let inventory = Loaded::find(global.config.as_deref()).and_then(Inventory::take);
    let checked = inventory.and_then(|inventory| {
        data_files::check::<Pack>(&inventory.loaded)?;
        data_files::check::<Dialect>(&inventory.loaded)?;
        Ok(inventory)
    });
    match checked {
        Ok(inventory) => report(global, &inventory),
        Err(Failure { told: Told::Configuration(problems), .. }) if global.json => {
            print_json(&json!({ "valid": false, "problems": problems, "warnings": [], "not_in_force": [] }))?;
            Err(Failure::silent(Exit::Usage))
        }
        Err(failure) => Err(failure),
    }
}

fn report(global: &Global, inventory: &Inventory) -> Result<Exit, Failure> {
    let configuration = &inventory.loaded.configuration;
    let warnings = configuration.warnings();
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
    load::report_all(warnings);
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
