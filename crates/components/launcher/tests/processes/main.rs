//! The launcher against real processes: the test's own executable is daemon, guardian, shim and server.
//!
//! It has a `main` of its own because the guardian must come first in it, as in the daemon.

#![expect(clippy::expect_used, clippy::panic, reason = "all of it is a test, which the lints see only with a harness")]

mod child;
mod child_process;
mod cleanup;
mod failures;
mod fixture;
mod identify;
mod output;
mod panicking;
mod pre_start;
mod running;
mod starting;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// The name of a test, and its function.
type TestCase = (&'static str, fn());

fn main() -> ExitCode {
    if let Some(code) = llama_warden_launcher::guardian::run_if_requested(std::env::args_os()) {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(("child", rest)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return child::run(rest);
    }
    let tests: Vec<TestCase> = [
        starting::TESTS,
        pre_start::TESTS,
        running::TESTS,
        output::TESTS,
        cleanup::TESTS,
        failures::TESTS,
        child_process::TESTS,
        identify::TESTS,
    ]
    .concat();
    if arguments.iter().any(|argument| argument == "--list") {
        // A runner asks once for all and once for those that are left out, of which there are none.
        let asked = if arguments.iter().any(|argument| argument == "--ignored") { &[][..] } else { &tests[..] };
        asked.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let filter: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |name: &str| filter.is_empty() || filter.iter().any(|part| name.contains(part.as_str()));
    let mut failed = 0;
    for (name, check) in tests.into_iter().filter(|(name, _)| is_wanted(name)) {
        let start = Instant::now();
        let has_passed = catch_unwind(AssertUnwindSafe(check)).is_ok();
        failed += usize::from(!has_passed);
        println!("test {name} ... {} ({:.2?})", if has_passed { "ok" } else { "FAILED" }, start.elapsed());
    }
    println!("\ntest result: {}. {failed} failed", if failed == 0 { "ok" } else { "FAILED" });
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
