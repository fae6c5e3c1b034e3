//! The arguments of the command line, for clap. The doc comments of fields and variants are its help.

pub mod fleet;
pub mod key;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use llama_warden_connect::values::{duration, stream};
use llama_warden_connect::{GlobalArgs, ServerSelector, path};
use llama_warden_events::{ServerId, StreamName};
use llama_warden_plugin_commands::detector::DetectorCommand;
use llama_warden_plugin_commands::dialect::DialectCommand;

use fleet::{ProfileCommand, ReloadArgs};
use key::KeyCommand;
pub use values::EventsSince;
use values::{earlier_run, since};

use crate::completion;

/// Launches llama.cpp servers, knows the truth about each of them, and never leaves one behind.
#[derive(Debug, Parser)]
#[command(name = "llama-warden", version, max_term_width = 110, after_help = EXAMPLES, arg_required_else_help = true)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// The command.
    #[command(subcommand)]
    pub command: CliCommand,
}

/// Below the help of the program; under another name of the program, its commands have that.
pub const EXAMPLES: &str = "\
Examples:
  llama-warden demo                  three servers, a table, metrics
  llama-warden check                 is the configuration right?
  llama-warden up                    start what is enabled; Ctrl-C stops it
  llama-warden up --models ~/models  every model in a folder
  llama-warden status --watch        how is every server?
  llama-warden restart --wait qwen3  restart one and wait until it is ready
  llama-warden logs -f qwen3         what does it say?
  llama-warden profile switch --dry-run big
                                     what would a switch do?

Exit codes:
  0 done, 1 failed, 2 usage or configuration, 3 a server did not become ready,
  4 another daemon holds the state directory, 5 no daemon to talk to,
  130/143 ended by a second INT/TERM";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum CliCommand {
    /// Start the enabled servers and run in the foreground, also as process 1 of a container
    Up(UpArgs),
    /// Try it out: three servers with tiny models, a table and metrics, in a temporary directory
    Demo,
    /// Show every server
    #[command(visible_aliases = ["ps", "ls"])]
    Status {
        /// Show only these servers: ids, or globs such as 'co*'
        #[arg(value_name = "ID", add = completion::servers())]
        ids: Vec<ServerSelector>,
        /// Keep running and show every change
        #[arg(long, short)]
        watch: bool,
        /// The servers of other machines too: of the daemons that `peers` of the configuration names
        #[arg(long, short)]
        all: bool,
    },
    /// Show every server on the whole screen, with the log of one and keys to start and stop it
    Top {
        /// Show only these servers: ids, or globs such as 'co*'
        #[arg(value_name = "ID", add = completion::servers())]
        ids: Vec<ServerSelector>,
        /// The servers of other machines too, read only: of the daemons that `peers` of the configuration names
        #[arg(long, short)]
        all: bool,
    },
    /// Start servers
    // The options of a stop mean nothing here; the daemon refuses them.
    #[command(mut_arg("grace", |arg| arg.hide(true)), mut_arg("force", |arg| arg.hide(true)))]
    Start(ControlArgs),
    /// Stop servers; a repeated stop joins the first
    Stop(ControlArgs),
    /// Stop servers that run, then start them
    Restart(ControlArgs),
    /// Stop every server and the daemon
    Down {
        /// Kill every server at once
        #[arg(long)]
        force: bool,
        /// Wait no longer than this until the daemon is gone
        #[arg(long, value_name = "DUR", value_parser = duration, default_value = "60s")]
        timeout: Duration,
    },
    /// Show the output of servers
    Logs(LogsArgs),
    /// Show what happened
    Events(EventsArgs),
    /// Wait until servers are ready, or stopped
    Wait(WaitArgs),
    /// Show the exact command line of a server, and what was translated for its build and why
    Argv {
        /// The server
        #[arg(value_name = "ID", add = completion::servers())]
        id: ServerId,
        /// Use this executable instead of the configured one
        #[arg(long, value_name = "BINARY", value_parser = path())]
        binary: Option<PathBuf>,
        /// With the options of this profile; else of the active one. "" is no profile
        #[arg(long, value_name = "NAME", add = completion::profiles())]
        profile: Option<String>,
    },
    /// Run another build of llama-server beside a server, compare the two, and stop it again
    Canary(CanaryArgs),
    /// The packs that read the output of llama-servers
    #[command(
        subcommand,
        mut_subcommand("show", |show| show.mut_arg("name", |name| name.add(completion::packs()))),
        mut_subcommand("test", |test| test
            .mut_arg("name", |name| name.add(completion::packs()))
            .mut_arg("stream", |stream| stream.add(completion::streams())))
    )]
    Detector(DetectorCommand),
    /// The dialects that spell options for builds of llama-server
    #[command(subcommand, mut_subcommand("show", |show| show.mut_arg("name", |name| name.add(completion::dialects()))))]
    Dialect(DialectCommand),
    /// Show the models in folders and what is known of each; needs no daemon
    Models {
        /// The folders to search; else those of models.dirs
        #[arg(value_name = "DIR", value_parser = path())]
        folders: Vec<PathBuf>,
    },
    /// Show profiles, and switch between them
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Make the daemon read its configuration and its model folders again
    Reload(ReloadArgs),
    /// Validate the configuration: problems with line, column and a next step
    Check {
        /// The file, before --config; else the configuration that every command uses
        #[arg(value_name = "FILE", value_parser = path())]
        file: Option<PathBuf>,
    },
    /// Look for what keeps the servers from running on this machine: executables, ports, memory, GPUs, limits
    Doctor,
    /// Keys of the clients of the router
    #[command(subcommand)]
    Key(KeyCommand),
    /// Make a configuration of one of llama-swap, or of the presets of llama-server's own router
    #[command(subcommand)]
    Import(ImportCommand),
    /// Print a template, or what is in force
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a JSON Schema, or a catalogue
    Schema {
        /// What to print
        #[arg(value_enum, default_value_t = SchemaName::Config)]
        name: SchemaName,
    },
    /// Check by the exit code that the daemon answers; for the HEALTHCHECK of a container
    Health {
        /// Also require that every enabled server is ready
        #[arg(long)]
        ready: bool,
        /// Wait no longer than this for the answer
        #[arg(long, value_name = "DUR", value_parser = duration, default_value = "2500ms")]
        timeout: Duration,
    },
    /// Print the script that completes commands, options and names in a shell: `source <(llama-warden completions bash)`
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages, one for each command, into a folder: then `man -l DIR/llama-warden.1`
    Man {
        /// The folder, which is created if it is missing
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
    /// Print the version
    Version,
}

/// The commands of `import`.
#[derive(Debug, Clone, Subcommand)]
pub enum ImportCommand {
    /// Print a configuration made of one of llama-swap, and list what has no counterpart
    LlamaSwap {
        /// llama-swap's configuration, such as config.yaml
        #[arg(value_name = "FILE", value_parser = path())]
        file: PathBuf,
    },
    /// Print a configuration made of the presets of llama-server's own router (`--models-preset`)
    RouterPresets {
        /// The file with a section for each model
        #[arg(value_name = "FILE", value_parser = path())]
        file: PathBuf,
        /// The llama-server that runs them
        #[arg(long, default_value = "llama-server", value_name = "PROGRAM")]
        binary: String,
    },
}

/// The commands of `config`.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum ConfigCommand {
    /// Print a template of the configuration: every key with its default, commented out
    Init,
    /// Print every value that is in force, and where it comes from
    Show,
}

/// Options of `up`.
#[derive(Debug, Clone, Default, Args)]
pub struct UpArgs {
    /// Start this profile
    #[arg(long, value_name = "NAME", add = completion::profiles())]
    pub profile: Option<String>,
    /// Start every model in this folder, beside what the configuration says; repeatable
    #[arg(long, value_name = "DIR", value_parser = path())]
    pub models: Vec<PathBuf>,
    /// Start only this server; repeatable
    #[arg(long = "server", value_name = "ID", add = completion::servers())]
    pub servers: Vec<ServerId>,
    /// Run in the background, and return when the daemon answers
    #[arg(long, short)]
    pub detach: bool,
    /// Replace the daemon that runs: its servers go on, and this one takes them over
    #[arg(long)]
    pub take_over: bool,
    /// Write the log on a terminal too, instead of a live table
    #[arg(long)]
    pub plain: bool,
    /// Leave the session of the caller: how `--detach` starts the daemon
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub own_session: bool,
}

/// Options of `start`, `stop` and `restart`.
#[derive(Debug, Clone, Args)]
pub struct ControlArgs {
    /// The servers: ids, or globs such as 'co*'
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all", add = completion::servers())]
    pub ids: Vec<ServerSelector>,
    /// Every configured server; for start: every enabled one
    #[arg(long)]
    pub all: bool,
    /// Wait until it is done
    #[arg(long, short)]
    pub wait: bool,
    /// Wait no longer than this (500ms, 10s, 2m); the daemon carries on after that
    #[arg(long, value_name = "DUR", value_parser = duration, requires = "wait")]
    pub timeout: Option<Duration>,
    /// Longest time from TERM to KILL, instead of the configured one
    #[arg(long, value_name = "DUR", value_parser = duration)]
    pub grace: Option<Duration>,
    /// Kill at once
    #[arg(long)]
    pub force: bool,
}

/// Options of `logs`.
#[derive(Debug, Clone, Args)]
pub struct LogsArgs {
    /// The servers: ids, or globs such as 'co*'; all if none is named
    #[arg(value_name = "ID", add = completion::servers())]
    pub ids: Vec<ServerSelector>,
    /// Keep running and show new lines
    #[arg(long, short)]
    pub follow: bool,
    /// Begin with this many of the latest lines of each server
    #[arg(short = 'n', long = "lines", visible_alias = "tail", value_name = "N", default_value_t = 100)]
    pub lines: usize,
    /// Show only this stream
    #[arg(long, value_parser = stream, add = completion::streams())]
    pub stream: Option<StreamName>,
    /// Begin each line with the time at which it was read, in UTC; of several servers, every line does
    #[arg(long, short)]
    pub timestamps: bool,
}

/// Options of `events`.
#[derive(Debug, Clone, Args)]
pub struct EventsArgs {
    /// Show only events of these servers
    #[arg(value_name = "ID", add = completion::servers())]
    pub ids: Vec<ServerSelector>,
    /// Keep running and show new events, after those that are kept
    #[arg(long, short)]
    pub follow: bool,
    /// Show only events after this number, or of the latest time (30s, 5m, 2h)
    #[arg(long, value_name = "SEQ|DUR", value_parser = since)]
    pub since: Option<EventsSince>,
    /// Show an earlier run of the daemon from its event log: -1 is the one before the latest, 0 the latest; needs no daemon
    #[arg(long, value_name = "-N", allow_negative_numbers = true, value_parser = earlier_run)]
    #[arg(conflicts_with = "follow")]
    pub run: Option<i64>,
}

/// Options of `canary`.
#[derive(Debug, Clone, Args)]
pub struct CanaryArgs {
    /// The server
    #[arg(value_name = "ID", add = completion::servers())]
    pub id: ServerId,
    /// The executable of the other build; a bare name is looked up in the daemon's PATH
    #[arg(long, value_name = "BINARY", value_parser = path())]
    pub binary: PathBuf,
    /// What both builds complete, instead of a built-in text
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// If the other build proves itself, let the server run it: a short gap, since the new one starts when the old one is down.
    /// If it fails within `restart.stable-after`, the old build comes back by itself
    #[arg(long)]
    pub switch: bool,
}

/// Options of `wait`.
#[derive(Debug, Clone, Args)]
pub struct WaitArgs {
    /// The servers: ids, or globs such as 'co*'
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all", add = completion::servers())]
    pub ids: Vec<ServerSelector>,
    /// Every server; to be ready: every enabled one
    #[arg(long)]
    pub all: bool,
    /// The state to wait for
    #[arg(long = "for", value_enum, default_value_t = WaitGoal::Ready)]
    pub goal: WaitGoal,
    /// Wait no longer than this (500ms, 10s, 2m); 0s looks once
    #[arg(long, value_name = "DUR", value_parser = duration)]
    pub timeout: Option<Duration>,
}

/// The state that `wait` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WaitGoal {
    /// Ready; a server that fails instead ends the wait with exit code 3
    Ready,
    /// Without a process
    Stopped,
}

/// The documents that `schema` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaName {
    /// JSON Schema of the configuration
    Config,
    /// JSON Schema of a detector pack
    Detector,
    /// JSON Schema of a flag dialect
    Dialect,
    /// The catalogue of events, as Markdown
    Events,
    /// The catalogue of metrics, as Markdown
    Metrics,
    /// The OpenAPI description
    Openapi,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The help of a command and of all below it, by name.
    fn helps(command: &mut clap::Command) -> Vec<(String, String)> {
        let own = (command.get_name().to_owned(), command.render_long_help().to_string());
        std::iter::once(own).chain(command.get_subcommands_mut().flat_map(helps)).collect()
    }

    #[test]
    fn every_help_is_wrapped_between_words() {
        for (name, help) in helps(&mut Cli::command().term_width(80)) {
            for line in help.lines() {
                assert!(line.chars().count() <= 80, "{name}: {line}");
            }
        }
    }

    #[test]
    fn the_help_of_a_start_lists_no_option_of_a_stop() {
        let helps = helps(&mut Cli::command());
        let lists =
            |command: &str, option: &str| helps.iter().any(|(name, help)| name == command && help.contains(option));
        for option in ["--grace", "--force"] {
            assert!(!lists("start", option) && lists("stop", option) && lists("restart", option), "{option}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
