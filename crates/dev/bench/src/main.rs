//! `cargo xtask bench`: measures optimized builds and compares each figure with a baseline of the same run and with its
//! budget.
//!
//! Machines are shared and noisy, so budgets are about medians and ratios. Progress goes to stderr; stdout gets the table
//! only, or one JSON document with `--json`.

mod catalogue;
mod death;
mod exports;
mod figure;
mod flood;
mod functions;
mod guardian;
mod health;
mod idle;
mod metrics;
mod output;
mod pairs;
mod patterns;
mod pgo;
mod readiness;
mod report;
mod restarts;
mod router;
mod side_by_side;
mod soak;
mod spawning;
mod switch;
mod take_over;
mod targets;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use llama_warden_test_parts::error::Error;

use figure::Figure;
use llama_warden_measured::{daemon, events, fleet, follower, killer, poller, ports, procfs, programs};
use programs::Programs;

/// Measure release builds against their budgets
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    options: BenchOptions,
    #[command(subcommand)]
    helper: Option<Helper>,
}

/// What to measure, and how to report it.
#[derive(Debug, clap::Args)]
struct BenchOptions {
    /// Fewer and shorter runs: a look, not a measurement
    #[arg(long)]
    quick: bool,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    /// Exit with 0 also when a figure is over its budget
    #[arg(long)]
    report_only: bool,
    /// Measure only this; repeatable
    #[arg(long, value_enum, value_name = "SUBJECT")]
    only: Vec<BenchSubject>,
    /// Measure the programs in this folder; nothing is built then but the benchmarks inside crates
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

/// A part of a benchmark that runs as a process of its own, and the chores that share its tools.
#[derive(Debug, Subcommand)]
enum Helper {
    /// Write lines to stderr as fast as they are read
    #[command(hide = true)]
    Flood(flood::FloodOptions),
    /// Run the daemon for long and compare what it holds early and late
    #[command(hide = true)]
    Soak(soak::SoakOptions),
    /// Find out which functions a daemon runs, and have them placed together when it is linked
    #[command(hide = true)]
    Functions(functions::FunctionsOptions),
    /// Count how often the router's code runs for real requests, and have it optimized by that
    #[command(hide = true)]
    Pgo,
}

/// A group of figures that can be measured on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BenchSubject {
    /// How soon a real llama-server is known to be ready
    Readiness,
    /// How long a hundred servers take to spawn
    Spawning,
    /// What an idle daemon costs
    Idle,
    /// What the guardian and the shims cost
    Guardian,
    /// How fast output is read
    Output,
    /// How fast patterns match
    Patterns,
    /// How long it takes to switch to a profile with much in common
    Switch,
    /// How long fifty servers take to load together
    SideBySide,
    /// How soon a death is seen and how exactly a restart comes
    Death,
    /// What it costs to watch a hundred servers
    Health,
    /// How long a thousand models take to discover
    Catalogue,
    /// How long the metrics page takes and is
    Metrics,
    /// How long nobody answers while one daemon takes over from another
    TakeOver,
    /// What `top` costs with five hundred servers
    Top,
    /// What the export to an OpenTelemetry collector adds to a start of fifty servers
    Exports,
    /// How much the memory of a daemon grows by many restarts
    Restarts,
    /// What the router adds to a request, beside nginx
    Router,
}

impl BenchSubject {
    fn measure(self, programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
        match self {
            Self::Readiness => readiness::measure(programs, effort),
            Self::Spawning => spawning::measure(programs, effort),
            Self::Idle => idle::measure(&programs.as_shipped()?, effort),
            Self::Guardian => guardian::measure(&programs.as_shipped()?, effort),
            Self::Output => output::measure(programs, effort),
            Self::Patterns => patterns::measure(),
            Self::Switch => switch::measure(programs, effort),
            Self::SideBySide => side_by_side::measure(programs, effort),
            Self::Death => death::measure(programs, effort),
            Self::Health => health::measure(programs, effort),
            Self::Catalogue => catalogue::measure(effort),
            Self::Metrics => metrics::measure(effort),
            Self::TakeOver => take_over::measure(programs, effort),
            Self::Top => top::measure(programs, effort),
            Self::Exports => exports::measure(&programs.as_shipped()?, effort),
            Self::Restarts => restarts::measure(programs, effort),
            Self::Router => router::measure(&programs.as_shipped()?, effort),
        }
    }
}

/// How often and how long to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// Often enough for the budgets to be meaningful.
    Full,
    /// Just enough to see that the benchmark works.
    Quick,
}

impl Effort {
    fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match &cli.helper {
        Some(Helper::Flood(options)) => flood::run(options).map(|()| ExitCode::SUCCESS),
        Some(Helper::Soak(options)) => soak::run(options),
        Some(Helper::Functions(options)) => functions::run(options),
        Some(Helper::Pgo) => pgo::run(),
        None => run(&cli.options),
    };
    result.unwrap_or_else(|error| error.report())
}

/// Measures and prints the figures; the exit code is a failure if a figure is over its budget or cannot be measured.
///
/// # Errors
/// When the programs to measure do not build or do not exist.
fn run(options: &BenchOptions) -> Result<ExitCode, Error> {
    let effort = if options.quick { Effort::Quick } else { Effort::Full };
    let programs = match &options.programs {
        Some(folder) => Programs::in_folder(folder)?,
        None => Programs::build()?,
    };
    let (mut figures, mut is_whole) = (Vec::new(), true);
    for subject in BenchSubject::value_variants()
        .iter()
        .filter(|subject| options.only.is_empty() || options.only.contains(subject))
    {
        eprintln!("bench: {subject:?}");
        match subject.measure(&programs, effort) {
            Ok(measured) => figures.extend(measured),
            // Other subjects take minutes and are independent, so one failure does not discard them.
            Err(error) => {
                eprintln!("bench: {subject:?} is left out: {error}");
                is_whole = false;
            }
        }
    }
    match options.json {
        true => println!("{}", report::json(&figures)),
        false => print!("{}", report::table(&figures)),
    }
    let is_over = !figures.iter().all(Figure::is_within_budget);
    let is_bad = !is_whole || is_over && !options.report_only;
    Ok(if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
