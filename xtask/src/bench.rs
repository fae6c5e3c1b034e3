//! `cargo xtask bench`: builds and runs `llama-warden-bench`, which has the options, the output and the exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use xtask::cargo::cargo;
use xtask::error::Error;
use xtask::shell;

/// Arguments that are passed on as they are, `--help` included.
#[derive(Debug, clap::Args)]
pub struct BenchArguments {
    /// Options of the benchmarks; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTION")]
    arguments: Vec<OsString>,
}

/// Runs the benchmarks and returns their exit code.
///
/// # Errors
/// When cargo cannot be started.
pub fn run(arguments: &BenchArguments) -> Result<ExitCode, Error> {
    let bench = ["run", "--quiet", "--package", "llama-warden-bench", "--"];
    shell::status(cargo().args(bench).args(&arguments.arguments)).map(shell::exit_code)
}
