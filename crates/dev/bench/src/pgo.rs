//! `cargo xtask pgo`: counts how often each block of the router's functions runs for real requests, and keeps the counts beside the code.
//!
//! An instrumented daemon is asked as in the benchmark of the router. The compiler reads the counts when what is shipped is built
//! (`llama_warden_test_parts::shipped`).

use std::process::ExitCode;
use std::time::Duration;

use llama_warden_test_parts::error::Error;
use llama_warden_test_parts::{paths, shell, shipped};

use crate::programs::Programs;
use crate::router;

/// How long each load runs.
const TIME: Duration = Duration::from_secs(6);

/// A function is kept if one of its blocks runs as often as once in so many requests. The others are those of a start and an end, whose few
/// runs would have the compiler take them for cold.
const REQUESTS: u64 = 100;

/// Builds, counts and writes the file.
///
/// # Errors
/// When the program does not build, or a request goes wrong.
pub fn run() -> Result<ExitCode, Error> {
    let counts = paths::target().join("instrumented/counts");
    paths::remove(&counts)?;
    let instrumented = shipped::build_instrumented(&counts)?;
    let programs = Programs::of_daemon(instrumented)?;
    let requests = router::load(&programs, TIME)?;
    let merged = shell::read(shipped::llvm_profdata()?.args(["merge", "--sparse", "--text", "-o", "-"]).arg(&counts))?;
    let kept = often(&merged, requests / REQUESTS);
    eprintln!("pgo: {requests} requests, counts of {} functions", kept.matches("# Func Hash:").count());
    println!("{}", shipped::keep_counts(&kept)?.display());
    Ok(ExitCode::SUCCESS)
}

/// The functions of which a block ran at least so often: paragraphs of a text of counts.
fn often(text: &str, least: u64) -> String {
    let (head, functions) = text.split_at(text.find("\n_").map_or(text.len(), |end| end + 1));
    let is_often = |function: &&str| {
        let counters = function.lines().skip_while(|line| *line != "# Counter Values:").skip(1);
        counters.map_while(|line| line.parse::<u64>().ok()).any(|count| count >= least)
    };
    let kept = functions.split_inclusive("\n\n").filter(is_often);
    std::iter::once(head).chain(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_that_run_rarely_are_left_out() {
        let head = "# IR level Instrumentation Flag\n:ir\n";
        let function = |name, counts, more| {
            format!("_ZN{name}E\n# Func Hash:\n9999\n# Num Counters:\n2\n# Counter Values:\n{counts}\n{more}\n")
        };
        // The values that a call had are no counters.
        let rare = function("4rare", "1\n9", "# Num Value Kinds:\n1\n# ValueKind = IPVK_MemOPSize:\n1\n1\n1\n8:700\n");
        let usual = function("5usual", "0\n10", "");
        let last = function("4last", "11\n0", "");
        assert_eq!(often(&[head, &usual, &rare, &last].concat(), 10), [head, &usual, &last].concat());
        assert_eq!(often(head, 10), head);
    }
}
