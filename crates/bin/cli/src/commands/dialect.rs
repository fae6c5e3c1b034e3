//! `dialect`: lists, shows and checks flag dialects. Needs no daemon.

use std::path::Path;

use llama_warden_connect::GlobalArgs;
use llama_warden_daemon::{CommandResult, LoadedConfig};
use llama_warden_dialects::Dialect;
use llama_warden_plugin_files::PluginFile as _;
use serde_json::json;

use crate::args::dialect::DialectCommand;
use llama_warden_builds::plugin_files;
use llama_warden_terminal::output::print_either;

pub fn run(global: &GlobalArgs, command: &DialectCommand) -> CommandResult {
    match command {
        DialectCommand::List => plugin_files::list::<Dialect>(global.config.as_deref(), global.json),
        DialectCommand::Show { name } => plugin_files::show::<Dialect>(global.config.as_deref(), global.json, name),
        DialectCommand::Check { file } => check(global, file),
    }
}

fn check(global: &GlobalArgs, file: &Path) -> CommandResult {
    let library = plugin_files::load_set(&LoadedConfig::find(global.config.as_deref())?);
    let dialect: Dialect = plugin_files::read(&library, file)?;
    let (rules, examples) = (dialect.rule_count(), dialect.example_count());
    let (name, fit) = (dialect.name(), dialect.fit());
    let data = json!({ "name": name, "valid": true, "rules": rules, "examples": examples });
    print_either(global.json, &data, || {
        format!("{name}: valid, for {fit}; {rules} rules, and {examples} examples hold")
    })
}
