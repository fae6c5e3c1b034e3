//! `dialect`: lists, shows and checks flag dialects. Needs no daemon.

use std::path::Path;

use llama_warden_daemon::{CommandFailure, Exit, LoadedConfig};
use llama_warden_launcher::Dialect;
use llama_warden_plugin_files::PluginFile as _;
use serde_json::json;

use crate::args::GlobalArgs;
use crate::args::dialect::DialectCommand;
use crate::output::{print_json, print_line};
use crate::plugin_files::{self, metadata};

pub fn run(global: &GlobalArgs, command: &DialectCommand) -> Result<Exit, CommandFailure> {
    match command {
        DialectCommand::List => plugin_files::list(global, |dialect: &Dialect, data| {
            data.insert("rules".to_owned(), dialect.rule_count().into());
            data.insert("examples".to_owned(), dialect.example_count().into());
        }),
        DialectCommand::Show { name } => show(global, name),
        DialectCommand::Check { file } => check(global, file),
    }
}

fn show(global: &GlobalArgs, name: &str) -> Result<Exit, CommandFailure> {
    let dialect: Dialect = plugin_files::find(global, name)?;
    if global.json {
        let mut data = metadata(&dialect);
        data.insert("text".to_owned(), dialect.text().into());
        print_json(&data)?;
    } else {
        print_line(dialect.text().trim_end())?;
    }
    Ok(Exit::Done)
}

fn check(global: &GlobalArgs, file: &Path) -> Result<Exit, CommandFailure> {
    let library = plugin_files::load_set(&LoadedConfig::find(global.config.as_deref())?);
    let dialect: Dialect = plugin_files::read(&library, file)?;
    let (rules, examples) = (dialect.rule_count(), dialect.example_count());
    if global.json {
        print_json(&json!({ "name": dialect.name(), "valid": true, "rules": rules, "examples": examples }))?;
    } else {
        let (name, fit) = (dialect.name(), dialect.fit());
        print_line(format!("{name}: valid, for {fit}; {rules} rules, and {examples} examples hold"))?;
    }
    Ok(Exit::Done)
}
