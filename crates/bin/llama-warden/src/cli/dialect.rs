//! `dialect`: how options are spelled for the builds. Needs no daemon.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use llama_warden_dialects::Dialect;
use llama_warden_plugin_files::PluginFile as _;
use serde_json::json;

use super::args::Global;
use super::data_files::{self, described};
use super::{print_json, print_line};
use crate::exit::{Exit, Failure};
use crate::load::Loaded;

/// What to do with flag dialects.
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
    /// Say whether a file is a dialect, and whether its examples hold
    Check {
        /// The file; it need not lie in llama-server.dialects-dir
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub fn run(global: &Global, command: &DialectCommand) -> Result<Exit, Failure> {
    match command {
        DialectCommand::List => data_files::list(global, |dialect: &Dialect, data| {
            data.insert("rules".to_owned(), dialect.rule_count().into());
            data.insert("examples".to_owned(), dialect.example_count().into());
        }),
        DialectCommand::Show { name } => show(global, name),
        DialectCommand::Check { file } => check(global, file),
    }
}

fn show(global: &Global, name: &str) -> Result<Exit, Failure> {
    let dialect: Dialect = data_files::find(global, name)?;
    if global.json {
        let mut data = described(&dialect);
        data.insert("text".to_owned(), dialect.text().into());
        print_json(&data)?;
    } else {
        print_line(dialect.text().trim_end())?;
    }
    Ok(Exit::Done)
}

fn check(global: &Global, file: &Path) -> Result<Exit, Failure> {
    let library = data_files::library(&Loaded::find(global.config.as_deref())?);
    let dialect: Dialect = data_files::read(&library, file)?;
    let (rules, examples) = (dialect.rule_count(), dialect.example_count());
    if global.json {
        print_json(&json!({ "name": dialect.name(), "valid": true, "rules": rules, "examples": examples }))?;
    } else {
        let (name, fit) = (dialect.name(), dialect.fit());
        print_line(format!("{name}: valid, for {fit}; {rules} rules, and {examples} examples hold"))?;
    }
    Ok(Exit::Done)
}
