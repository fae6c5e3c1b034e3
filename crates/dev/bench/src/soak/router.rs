//! Runs the chaos of the system tests for long, with the daemon that is to be soaked.

use std::process::ExitCode;
use std::time::Duration;

use llama_warden_test_parts::cargo::cargo;
use llama_warden_test_parts::error::Error;
use llama_warden_test_parts::shell;

use crate::programs::Programs;

/// Runs the test for `time`; what it says goes to stderr.
///
/// # Errors
/// When the test does not build.
pub fn run(programs: &Programs, time: Duration, seed: u64) -> Result<ExitCode, Error> {
    // The test has the stand-in beside it.
    shell::run(cargo().args(["build", "--package", "llama-warden-stand-in", "--bins"]))?;
    let test = ["test", "--package", "llama-warden-tests", "--test", "system", "chaos", "--", "--nocapture"];
    let status = shell::status(
        cargo()
            .args(test)
            .env("LLAMA_WARDEN_BIN", &programs.daemon)
            .env("LLAMA_WARDEN_TEST_SECONDS", time.as_secs_f64().to_string())
            .env("LLAMA_WARDEN_TEST_SEED", seed.to_string()),
    )?;
    Ok(shell::exit_code(status))
}
