//! `profile`: lists, shows and switches profiles.
//!
//! `list` and `show` ask the daemon for the profiles in force; without a daemon they read the configuration.

use llama_warden_api_types::ProfileReport;
use llama_warden_connect::{self as connect, GlobalArgs};
use llama_warden_exit::{CommandFailure, CommandResult, Exit};
use llama_warden_inventory::Inventory;
use llama_warden_inventory::LoadedConfig;

use super::apply_change;
use crate::args::fleet::ProfileCommand;
use llama_warden_terminal::output::print_either;
use llama_warden_terminal::table::{self, Column, shrinks, whole};

pub async fn run(global: &GlobalArgs, command: &ProfileCommand) -> CommandResult {
    match command {
        ProfileCommand::List => list(global).await,
        ProfileCommand::Show { name } => show(global, name).await,
        ProfileCommand::Active => active(global).await,
        ProfileCommand::Switch(args) => apply_change::to_profile(global, args).await,
    }
}

/// The columns of `profile list`.
const COLUMNS: [Column; 4] = [whole("PROFILE"), whole("ACTIVE"), shrinks("SERVERS", 16), shrinks("DESCRIPTION", 16)];

async fn list(global: &GlobalArgs) -> CommandResult {
    let profiles = profiles(global).await?;
    let rows = profiles.iter().map(|ProfileReport { card, active }| {
        let active = if *active { "yes" } else { "" };
        [card.name.clone(), active.to_owned(), table::names(&card.servers), card.description.clone()]
    });
    print_either(global.json, &profiles, || match profiles.is_empty() {
        true => "no profile is configured; a table [profiles.NAME] in the configuration makes one".to_owned(),
        false => table::list(COLUMNS, rows),
    })
}

async fn show(global: &GlobalArgs, name: &str) -> CommandResult {
    let profiles = profiles(global).await?;
    let Some(profile) = profiles.iter().find(|profile| profile.card.name == name) else {
        let known = profiles.iter().map(|profile| profile.card.name.as_str());
        return Err(CommandFailure::unknown_profile(name, known));
    };
    print_either(global.json, profile, || {
        let ProfileReport { card, active } = profile;
        let active = if *active { " (active)" } else { "" };
        let description = if card.description.is_empty() { String::new() } else { table::below(&card.description) };
        let servers = table::below(&format!("servers: {}", table::names(&card.servers)));
        format!("{}{active}{description}{servers}", card.name)
    })
}

async fn active(global: &GlobalArgs) -> CommandResult {
    let report = connect::to_daemon(global).await?.active_profile().await.map_err(connect::request_failure)?;
    print_either(global.json, &report, || {
        let name = report.profile.as_deref().unwrap_or("no profile: every enabled server");
        let missing = if report.missing.is_empty() {
            String::new()
        } else {
            table::below(&format!("not ready: {}", table::names(&report.missing)))
        };
        let servers = table::below(&format!("servers: {}", table::names(&report.servers)));
        format!("{name}{servers}{missing}")
    })
}

async fn profiles(global: &GlobalArgs) -> Result<Vec<ProfileReport>, CommandFailure> {
    match connect::to_daemon(global).await {
        Ok(client) => client.profiles().await.map_err(connect::request_failure),
        Err(failure) if failure.exit == Exit::NoDaemon && global.address.is_none() => {
            let inventory = Inventory::scan(LoadedConfig::find(global.config.as_deref())?)?;
            let cards = inventory.loaded.configuration.profiles();
            Ok(cards.into_iter().map(|card| ProfileReport { card, active: false }).collect())
        }
        Err(failure) => Err(failure),
    }
}
