//! `dialect`: lists, shows and checks flag dialects. Needs no daemon. The doc comments of fields and variants are its help.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use llama_warden_builds::plugin_files;
use llama_warden_connect::{GlobalArgs, path};
use llama_warden_dialects::Dialect;
use llama_warden_exit::CommandResult;
use llama_warden_inventory::LoadedConfig;
use llama_warden_plugin_files::PluginFile as _;
use llama_warden_terminal::output::print_either;
use serde_json::json;

/// The commands of `dialect`.
#[derive(Debug, Clone, Subcommand)]
pub enum DialectCommand {
    /// Show every dialect, in order of precedence
    List,
    /// Show one dialect as it is written
    Show {
        /// Its name, or its file
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Check whether a file is a valid dialect, and whether its examples hold
    Check {
        /// The file; it need not lie in llama-server.dialects-dir
        #[arg(value_name = "FILE", value_parser = path())]
        file: PathBuf,
    },
}

/// Runs a command of `dialect`.
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
