//! `detector`: lists, shows, tests and learns detector packs. Needs no daemon. The doc comments of fields and variants are its
//! help.

mod learn;
mod test;
mod which;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use llama_warden_builds::plugin_files;
use llama_warden_connect::values::{duration, stream};
use llama_warden_connect::{GlobalArgs, path};
use llama_warden_daemon::on_runtime;
use llama_warden_detectors::Pack;
use llama_warden_events::StreamName;
use llama_warden_exit::CommandResult;

/// The commands of `detector`.
#[derive(Debug, Clone, Subcommand)]
pub enum DetectorCommand {
    /// Show every pack, in order of precedence
    List,
    /// Show one pack as it is written
    Show {
        /// Its name, or its file
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Say which pack and dialect a llama-server gets, and why
    Which {
        /// The executable, as a path or a name on PATH
        #[arg(value_name = "BINARY", value_parser = path())]
        binary: PathBuf,
    },
    /// Show the verdicts of a pack for a log, line by line, and whether its own examples hold
    Test(TestArgs),
    /// Start an unknown build a few times and write a pack that reads it
    Learn(LearnArgs),
}

/// Options of `detector test`.
#[derive(Debug, Clone, Args)]
pub struct TestArgs {
    /// The pack's name, or its file
    // Indices, since the command line changes the name's argument, which would put it behind the other one.
    #[arg(index = 1, value_name = "NAME")]
    pub name: String,
    /// A log, or a transcript (JSON Lines with t_us, stream, data); - is standard input
    #[arg(index = 2, value_name = "FILE", value_parser = path())]
    pub file: PathBuf,
    /// The port that the server was given; ready lines of other ports do not count. Transcripts contain it
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// The stream that a log comes from; without it, lines are tried as both
    #[arg(long, value_parser = stream)]
    pub stream: Option<StreamName>,
}

/// Options of `detector learn`.
#[derive(Debug, Clone, Args)]
pub struct LearnArgs {
    /// Write the pack here; else to standard output
    #[arg(long, short, value_name = "FILE", value_parser = path())]
    pub out: Option<PathBuf>,
    /// The pack's name; else the name of FILE, or learnt-BUILD
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// How often to start the build
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(2..=50))]
    pub starts: u8,
    /// Longest time from a start to ready
    #[arg(long, value_name = "DUR", value_parser = duration, default_value = "120s")]
    pub timeout: Duration,
    /// The executable and its arguments; --model is needed, a free --port is added
    #[arg(last = true, required = true, value_name = "BINARY [ARG]...")]
    pub command: Vec<OsString>,
}

/// Runs a command of `detector`.
pub fn run(global: &GlobalArgs, command: &DetectorCommand) -> CommandResult {
    match command {
        DetectorCommand::List => plugin_files::list::<Pack>(global.config.as_deref(), global.json),
        DetectorCommand::Show { name } => plugin_files::show::<Pack>(global.config.as_deref(), global.json, name),
        DetectorCommand::Which { binary } => on_runtime(which::run(global, binary)),
        DetectorCommand::Test(args) => test::run(global, args),
        DetectorCommand::Learn(args) => learn::run(global, args),
    }
}
