//! The arguments of commands about the whole fleet: models, profiles, reload.

use std::time::Duration;

use clap::{Args, Subcommand};
use llama_warden_connect::values::duration;

use crate::completion;

/// The commands of `profile`.
#[derive(Debug, Clone, Subcommand)]
pub enum ProfileCommand {
    /// Show every profile
    List,
    /// Show one profile
    Show {
        /// The profile
        #[arg(value_name = "NAME", add = completion::profiles())]
        name: String,
    },
    /// Show the active profile, and which of its servers are not ready
    Active,
    /// Start and stop servers until the fleet matches a profile; servers that already match are not touched
    Switch(SwitchArgs),
}

/// Options of `profile switch`.
#[derive(Debug, Clone, Args)]
pub struct SwitchArgs {
    /// The profile
    #[arg(value_name = "NAME", required_unless_present = "none", conflicts_with = "none", add = completion::profiles())]
    pub name: Option<String>,
    /// No profile: every enabled server
    #[arg(long)]
    pub none: bool,
    /// Only show the plan
    #[arg(long, conflicts_with = "wait")]
    pub dry_run: bool,
    /// Whether and how long to wait
    #[command(flatten)]
    pub patience: PatienceArgs,
}

/// Options of `reload`.
#[derive(Debug, Clone, Args)]
pub struct ReloadArgs {
    /// Apply the configuration even if it looks half written: if it stops every server that runs and starts none, ends
    /// where the present one goes on, or has lost its last line feed and servers
    #[arg(long)]
    pub force: bool,
    /// Whether and how long to wait
    #[command(flatten)]
    pub patience: PatienceArgs,
}

/// Whether and how long to wait for the fleet.
#[derive(Debug, Clone, Args)]
pub struct PatienceArgs {
    /// Wait until every server is ready or stopped
    #[arg(long, short)]
    pub wait: bool,
    /// Wait no longer than this (500ms, 10s, 2m); the daemon carries on after that
    #[arg(long, value_name = "DUR", value_parser = duration, requires = "wait")]
    pub timeout: Option<Duration>,
}
