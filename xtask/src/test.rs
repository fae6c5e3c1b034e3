//! `cargo xtask test`: provides everything that the tests need, then runs all tests.
//!
//! Plain `cargo test` works too, but skips tests that need a real program which the environment does not name. Here the
//! environment names all of them, and `LLAMA_WARDEN_TEST_ALL` turns a missing one into a failure.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;

use llama_warden_test_parts::cargo::cargo;
use llama_warden_test_parts::error::Error;
use llama_warden_test_parts::llama_server::{self, Build};
use llama_warden_test_parts::{api_clients, browser, prometheus, shell, systemd, validators};

/// How many tests nextest runs at a time; an argument of its own goes before it.
const THREADS: &str = "NEXTEST_TEST_THREADS";

/// Which tests to run, as arguments of the runner.
#[derive(Debug, Default, clap::Args)]
pub struct TestOptions {
    /// Arguments for the runner (cargo nextest run, where it is installed, else cargo test); with any, documentation
    /// examples are left out
    #[arg(last = true, value_name = "ARG")]
    runner: Vec<OsString>,
}

/// Provides the parts, builds the programs and runs the tests. Returns the runner's exit code; its summary is printed last.
///
/// # Errors
/// When a part cannot be provided or the programs do not build.
pub fn run(options: &TestOptions) -> Result<ExitCode, Error> {
    let parts = [
        ("LLAMA_WARDEN_TEST_LLAMA_SERVER", llama_server::provide(&Build::Auto)?.into_os_string()),
        ("LLAMA_WARDEN_TEST_LLAMA_SERVER_0_3_2", old_build("0.3.2")?),
        ("LLAMA_WARDEN_TEST_LLAMA_SERVER_0_3_16", old_build("0.3.16")?),
        ("LLAMA_WARDEN_TEST_PROMETHEUS", prometheus::provide()?.into_os_string()),
        ("LLAMA_WARDEN_TEST_SYSTEMD_ANALYZE", systemd::provide()?.into_os_string()),
        ("LLAMA_WARDEN_TEST_BROWSER", browser::provide()?.into_os_string()),
        ("LLAMA_WARDEN_TEST_BROWSER_FONTS", browser::fonts().into_os_string()),
        ("LLAMA_WARDEN_TEST_NODE_MODULES", browser::node_modules()?.into_os_string()),
        ("LLAMA_WARDEN_TEST_ALL", "1".into()),
    ];
    // Tests start programs of other packages, which cargo does not build for them. One command builds both, so that they share
    // one build of each dependency.
    let others = validators::provide()?.into_iter().chain(api_clients::provide()?);
    let others = others.map(|(variable, path)| (variable, path.into_os_string()));
    let parts: Vec<_> = parts.into_iter().chain(others).collect();
    shell::run(cargo().args(["build", "--workspace", "--bins", "--tests"]))?;
    if shell::read(cargo().args(["nextest", "--version"])).is_ok() {
        // nextest does not run documentation examples. They run first, because the runner's summary must come last.
        if options.runner.is_empty() {
            let status = shell::status(cargo().args(["test", "--workspace", "--doc", "--quiet"]))?;
            if !status.success() {
                return Ok(shell::exit_code(status));
            }
        }
        let mut runner = cargo();
        if env::var_os(THREADS).is_none() {
            runner.env(THREADS, side_by_side().to_string());
        }
        return run_tests(runner.args(["nextest", "run", "--workspace"]), options, parts);
    }
    run_tests(cargo().args(["test", "--workspace", "--no-fail-fast"]), options, parts)
}

/// How many tests run at a time. Most of a test's time is waiting for programs that load, stop or are silent, so three fit
/// where two would compute.
fn side_by_side() -> usize {
    thread::available_parallelism().map_or(2, usize::from).max(2) * 3 / 2
}

/// Provides a llama-server of another year, built once and kept in the cache.
fn old_build(version: &str) -> Result<OsString, Error> {
    let Ok::<Build, _>(build) = version.parse();
    llama_server::provide(&build).map(PathBuf::into_os_string)
}

fn run_tests(runner: &mut Command, options: &TestOptions, parts: Vec<(&str, OsString)>) -> Result<ExitCode, Error> {
    shell::status(runner.args(&options.runner).envs(parts)).map(shell::exit_code)
}
