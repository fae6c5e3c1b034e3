//! `check`: is the configuration right?

use llama_warden_config::{Configuration, Problems};
use serde_json::json;

use super::args::Global;
use super::{detector, models, print_json};
use crate::exit::{Exit, Failure, Told};
use crate::load::{self, Loaded};
use crate::models::Inventory;

pub fn run(global: &Global) -> Result<Exit, Failure> {
    let inventory = Loaded::find(global.config.as_deref()).and_then(Inventory::take);
    match inventory.and_then(|inventory| detector::check(&inventory.loaded).map(|()| inventory)) {
        Ok(inventory) => report(global, &inventory),
        Err(Failure { told: Told::Configuration(problems), .. }) if global.json => {
            println!("{}", json!({ "valid": false, "problems": problems, "warnings": [], "not_in_force": [] }));
            Err(Failure::silent(Exit::Usage))
        }
        Err(failure) => Err(failure),
    }
}

fn report(global: &Global, inventory: &Inventory) -> Result<Exit, Failure> {
    let configuration = &inventory.loaded.configuration;
    let warnings = configuration.warnings();
    let later = configuration.not_yet_in_force();
    if global.json {
        let keys: Vec<_> = later.iter().map(|later| json!({ "key": later.key, "why": later.why })).collect();
        print_json(&json!({
            "valid": true,
            "problems": [],
            "warnings": Problems(warnings),
            "not_in_force": keys,
            "models": inventory.models,
        }))?;
        return Ok(Exit::Done);
    }
    load::report_all(warnings);
    models::report_problems(&inventory.models);
    for later in &later {
        eprintln!("not yet in force: `{}`: {}", later.key, later.why);
    }
    let name = configuration.path().map_or_else(
        || "no configuration file was found; the built-in defaults".to_owned(),
        |path| path.display().to_string(),
    );
    println!("{name}: valid, {} configured", count_servers(configuration));
    Ok(Exit::Done)
}

fn count_servers(configuration: &Configuration) -> String {
    match configuration.servers().count() {
        1 => "1 server".to_owned(),
        count => format!("{count} servers"),
    }
}
