//! Answers shells that complete a command line: the words of the command line itself, and names that only a daemon or the
//! configuration knows.
//!
//! The script of a shell runs this program with [`VARIABLE`] and the words so far. Whatever goes wrong, the answer is only
//! shorter: a message would land in the line that is being typed.

use std::ffi::OsString;
use std::fs::File;
use std::sync::OnceLock;
use std::time::Duration;

use clap::{Command, FromArgMatches};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::{CompleteEnv, Shells};
use llama_warden_client::Client;
use llama_warden_connect::{self as connect, GlobalArgs};
use llama_warden_daemon::build_runtime;
use llama_warden_detectors::Pack;
use llama_warden_dialects::Dialect;
use llama_warden_events::StreamName;
use llama_warden_exit::CommandFailure;
use llama_warden_inventory::Inventory;
use llama_warden_inventory::LoadedConfig;

use llama_warden_builds::plugin_files::{PluginKind, load_set};
use llama_warden_terminal::natural_order;

/// The program's name, which the scripts complete.
const PROGRAM: &str = "llama-warden";

/// Set by the scripts: the shell that asks.
const VARIABLE: &str = "LLAMA_WARDEN_COMPLETE";

/// Longest time that a daemon may take: a person waits with a finger on the key.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// Makes the command line that is completed. The candidates of an argument are asked for without one, and it has them as a part.
static COMMAND: OnceLock<fn() -> Command> = OnceLock::new();

/// Answers a shell, if one asks for words of `command`. Must be called before anything is printed.
pub fn answer_shell(command: fn() -> Command) -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    if let Ok(nowhere) = File::options().write(true).open("/dev/null") {
        // If this fails, a warning lands in the line; the answer is the same.
        let _ = nix::unistd::dup2_stderr(nowhere);
    }
    let directory = std::env::current_dir().ok();
    let answering = CompleteEnv::with_factory(COMMAND.get_or_init(|| command)).var(VARIABLE).bin(PROGRAM);
    answering.try_complete(std::env::args_os(), directory.as_deref()).unwrap_or(true)
}

/// The script that makes a shell complete this program's command line.
pub fn script(shell: clap_complete::Shell) -> Result<String, CommandFailure> {
    let shells = Shells::builtins();
    let shell = shell.to_string();
    let completer = shells.completer(&shell).ok_or_else(|| CommandFailure::failed(format!("no script for {shell}")))?;
    // A program that is not on PATH is called as it was called now.
    let called = std::env::args_os().next().map(std::path::PathBuf::from).unwrap_or_default();
    let called = if called.components().count() > 1 { std::path::absolute(&called).unwrap_or(called) } else { called };
    let mut script = Vec::new();
    completer
        .write_registration(VARIABLE, PROGRAM, PROGRAM, &called.to_string_lossy(), &mut script)
        .map_err(CommandFailure::failed)?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// Completes ids of servers.
pub fn servers() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let global = global_args();
        let asked = ask(&global, async |client| client.status().await.ok());
        let ids = match asked {
            Some(report) => report.servers.into_iter().map(|server| server.model_id.to_string()).collect(),
            None => configured(&global).map(|inventory| fleet_ids(&inventory)).unwrap_or_default(),
        };
        candidates(ids)
    })
}

/// Completes names of profiles.
pub fn profiles() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let global = global_args();
        let asked = ask(&global, async |client| client.profiles().await.ok());
        let names = match asked {
            Some(profiles) => profiles.into_iter().map(|profile| profile.card.name).collect(),
            None => {
                let cards = configured(&global).map(|inventory| inventory.loaded.configuration.profiles());
                cards.into_iter().flatten().map(|card| card.name).collect()
            }
        };
        candidates(names)
    })
}

/// Completes names of detector packs.
pub fn packs() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(plugin_names::<Pack>()))
}

/// Completes names of flag dialects.
pub fn dialects() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(plugin_names::<Dialect>()))
}

/// Completes names of output streams.
pub fn streams() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates(StreamName::ALL.into_iter().map(|stream| stream.to_string()).collect()))
}

fn candidates(mut names: Vec<String>) -> Vec<CompletionCandidate> {
    names.sort_by(|left, right| natural_order::compare(left, right));
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// The global options among the words of the line that is completed, and in the environment.
fn global_args() -> GlobalArgs {
    let words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    COMMAND.get().and_then(|command| of_words(command(), words)).unwrap_or_default()
}

fn of_words(command: Command, words: impl Iterator<Item = OsString>) -> Option<GlobalArgs> {
    let matches = command.ignore_errors(true).try_get_matches_from(words).ok()?;
    GlobalArgs::from_arg_matches(&matches).ok()
}

/// The daemon's answer, if there is one in time.
fn ask<T>(global: &GlobalArgs, question: impl AsyncFnOnce(Client) -> Option<T>) -> Option<T> {
    let answer = async { question(connect::to_daemon(global).await.ok()?).await };
    let runtime = build_runtime().ok()?;
    let answer = runtime.block_on(async { tokio::time::timeout(ANSWER_TIMEOUT, answer).await.ok().flatten() });
    runtime.shutdown_background();
    answer
}

fn configured(global: &GlobalArgs) -> Option<Inventory> {
    Inventory::scan(LoadedConfig::find(global.config.as_deref()).ok()?).ok()
}

fn fleet_ids(inventory: &Inventory) -> Vec<String> {
    let fleet = inventory.loaded.fleet(None);
    fleet.iter().flat_map(|fleet| fleet.iter()).map(|spec| spec.id.to_string()).collect()
}

fn plugin_names<F: PluginKind>() -> Vec<String> {
    let Ok(loaded) = LoadedConfig::find(global_args().config.as_deref()) else { return Vec::new() };
    load_set::<F>(&loaded).iter().map(|file| file.name().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::args::Cli;

    #[test]
    fn the_options_of_an_unfinished_line_lead_to_its_daemon() {
        let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>().into_iter();
        for line in [
            "llama-warden --config /x.toml --address unix:/s status ",
            "llama-warden restart --wait --address=unix:/s --config /x.toml a",
            "llama-warden --config /x.toml --address unix:/s profile switch ",
            "llama-warden --config=/x.toml --address unix:/s wait --for ",
        ] {
            let global = of_words(Cli::command(), words(line)).expect(line);
            assert_eq!(global.config.as_deref(), Some(std::path::Path::new("/x.toml")), "{line}");
            assert_eq!(global.address.as_deref(), Some("unix:/s"), "{line}");
        }
    }
}
