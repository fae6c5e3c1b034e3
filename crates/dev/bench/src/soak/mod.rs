//! `cargo xtask soak`: runs the daemon with stand-ins for a long time, and compares what it holds early and late.
//!
//! Commands, signals, changes of the configuration and the behaviour of the servers are drawn from a seed. Now and then all
//! servers are stopped: at rest, what a daemon holds does not depend on what happened before, so that any growth is a leak.
//! `--restarts N` restarts one server N times instead, and compares the memory before and after. `--router` has clients ask the router
//! instead, in the chaos of the system tests.

mod behaviour;
mod control;
mod rest;
mod restarts;
mod router;
mod session;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use llama_warden_test_parts::error::Error;

use crate::programs::Programs;
use rest::RestComparison;

/// How long to soak, and how to report it.
#[derive(Debug, clap::Args)]
pub struct SoakOptions {
    /// Minutes of random commands, signals and behaviour; a part of a minute is one too
    #[arg(long, value_name = "N", default_value_t = 10.0, conflicts_with = "restarts")]
    minutes: f64,
    /// Restart one server this many times instead, half of them by crashes
    #[arg(long, value_name = "N")]
    restarts: Option<u32>,
    /// Have thirty clients ask the router meanwhile instead; what is compared then is what they got
    #[arg(long, conflicts_with = "restarts")]
    router: bool,
    /// The seed of everything that is random; one is drawn without it
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Use the programs in this folder; nothing is built then
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// Runs the soak and prints its report; the exit code is a failure if something grew or was left behind.
///
/// # Errors
/// When the programs do not build, or the daemon does not do what it is told.
pub fn run(options: &SoakOptions) -> Result<ExitCode, Error> {
    let programs = match &options.programs {
        Some(folder) => Programs::in_folder(folder)?,
        None => Programs::build()?,
    };
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    eprintln!("soak: --seed {seed}");
    let time = Duration::from_secs_f64(options.minutes * 60.0);
    if options.router {
        return router::run(&programs, time, seed);
    }
    let comparisons = match options.restarts {
        Some(count) => restarts::run(&programs, count, seed)?,
        None => session::run(&programs, time, seed)?,
    };
    print!("{}", table(&comparisons));
    let is_flat = comparisons.iter().all(RestComparison::is_flat);
    Ok(if is_flat { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The comparisons as a table with one line each.
fn table(comparisons: &[RestComparison]) -> String {
    let mut table = format!("{:<24}{:>12}{:>12}{:>12}\n", "at rest", "early", "late", "tolerance");
    for comparison in comparisons {
        let RestComparison { what, early, late, tolerance } = comparison;
        let verdict = if comparison.is_flat() { "ok" } else { "GREW" };
        // Writing into a string cannot fail.
        let _ = writeln!(table, "{what:<24}{early:>12}{late:>12}{:>12}  {verdict}", format!("+{tolerance}"));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_beyond_its_tolerance_is_marked() {
        let comparison = |late| RestComparison { what: "threads", early: 4, late, tolerance: 1 };
        assert!(comparison(3).is_flat() && comparison(5).is_flat() && !comparison(6).is_flat());
        let expected = "\
at rest                        early        late   tolerance
threads                            4           6          +1  GREW
";
        assert_eq!(table(&[comparison(6)]), expected);
    }
}
