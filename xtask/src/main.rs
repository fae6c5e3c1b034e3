//! The project's own chores, run as `cargo xtask CHORE`.
//!
//! A chore prints its result on stdout and its progress on stderr.

mod bench;
mod build_log;
mod cargo;
mod ci;
mod debian;
mod error;
mod gguf;
mod hadolint;
mod llama_server;
mod parts;
mod paths;
mod prometheus;
mod python;
mod schema;
mod sdist;
mod shell;
mod test;
mod tidy;

use std::error::Error as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use error::Error;

/// The project's own chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version, disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Provide a real llama-server and print its path
    LlamaServer(llama_server::Args),
    /// Provide a real Prometheus with promtool and print its path
    Prometheus,
    /// Provide everything that the tests need, then run all of them
    Test(test::Args),
    /// Check the rules of layout that no compiler checks
    Tidy,
    /// Write the files below docs/ that are generated from the types
    Schema(schema::Args),
    /// Write a small random model that a real llama-server loads
    Gguf(gguf::Args),
    /// Measure release builds against their budgets
    Bench(bench::Args),
    /// Write lines to stderr as fast as they are taken: a part of bench
    #[command(hide = true)]
    Flood(bench::flood::Args),
    /// Run all checks, then all tests
    Ci,
}

fn main() -> ExitCode {
    run(Cli::parse().chore).unwrap_or_else(|error| {
        eprintln!("error: {}", described(&error));
        ExitCode::FAILURE
    })
}

fn run(chore: Chore) -> Result<ExitCode, Error> {
    match chore {
        Chore::LlamaServer(args) => llama_server::run(&args)?,
        Chore::Prometheus => prometheus::run()?,
        Chore::Test(args) => return test::run(&args),
        Chore::Tidy => tidy::run()?,
        Chore::Schema(args) => schema::run(&args)?,
        Chore::Gguf(args) => gguf::run(&args)?,
        Chore::Bench(args) => return bench::run(&args),
        Chore::Flood(args) => bench::flood::run(&args)?,
        Chore::Ci => return ci::run(),
    }
    Ok(ExitCode::SUCCESS)
}

fn described(error: &Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
