//! `check`: is the configuration right?

use llama_warden_config::{Configuration, Host, Problems};
use serde_json::json;

use super::args::Global;
use crate::exit::{Exit, Failure, Told};
use crate::load::{self, Loaded};

pub fn run(global: &Global) -> Result<Exit, Failure> {
    match Loaded::find(global.config.as_deref()).and_then(|loaded| loaded.fleet(None).map(|_| loaded)) {
        Ok(loaded) => report(global, &loaded.configuration),
        Err(Failure { told: Told::Configuration(problems), .. }) if global.json => {
            println!("{}", json!({ "valid": false, "problems": problems, "warnings": [], "not_in_force": [] }));
            Err(Failure::silent(Exit::Usage))
        }
        Err(failure) => Err(failure),
    }
}

fn report(global: &Global, configuration: &Configuration) -> Result<Exit, Failure> {
    let warnings = configuration.warnings();
    let later = configuration.not_yet_in_force();
    if global.json {
        let keys: Vec<_> = later.iter().map(|later| json!({ "key": later.key, "why": later.why })).collect();
        println!("{}", json!({ "valid": true, "problems": [], "warnings": Problems(warnings), "not_in_force": keys }));
        return Ok(Exit::Done);
    }
    load::report_all(warnings);
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
    let count = configuration.resolve(Some(""), &Host::current()).map_or(0, |fleet| fleet.iter().len());
    match count {
        1 => "1 server".to_owned(),
        count => format!("{count} servers"),
    }
}
