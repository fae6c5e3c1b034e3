//! Options of the commands about the whole fleet: models, profiles, reload.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::values::duration;

/// Options of `models`.
#[derive(Debug, Clone, Args)]
pub struct ModelsArgs {
    /// Where to look; else the folders of models.dirs
    #[arg(value_name = "DIR")]
    pub folders: Vec<PathBuf>,
}

/// What to do with profiles.
#[derive(Debug, Clone, Subcommand)]
pub enum ProfileCommand {
    /// Show every profile
    List,
    /// Show one profile
    Show {
        /// Which
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Show the active profile, and which of its servers are not ready
    Active,
    /// Bring the fleet to what a profile says; what runs as it should is not touched
    Switch(SwitchArgs),
}

/// Options of `profile switch`.
#[derive(Debug, Clone, Args)]
pub struct SwitchArgs {
    /// Which profile
    #[arg(value_name = "NAME", required_unless_present = "none", conflicts_with = "none")]
    pub name: Option<String>,
    /// No profile: every enabled server
    #[arg(long)]
    pub none: bool,
    /// Only show the plan
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,
    /// How long to wait
    #[command(flatten)]
    pub patience: PatienceArgs,
}

/// Whether to wait for the fleet.
#[derive(Debug, Clone, Args)]
pub struct PatienceArgs {
    /// Wait until every server has arrived
    #[arg(long, short)]
    pub wait: bool,
    /// Wait no longer than this (500ms, 10s, 2m); what was begun goes on
    #[arg(long, value_name = "DUR", value_parser = duration, requires = "wait")]
    pub timeout: Option<Duration>,
}
