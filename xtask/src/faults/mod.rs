//! `cargo xtask faults`: makes `docs/faults.md` of the rows in `docs/faults.toml`, of the tests that cite them, and of what
//! those tests measured.
//!
//! A test covers a row by a comment that begins with the code, as in `/// Faults C24 and C26.`

mod collect;
mod coverage;
mod measures;
mod page;
mod rows;

use std::fs;
use std::path::PathBuf;

use llama_warden_test_parts::error::{Error, OnPath};
use llama_warden_test_parts::paths;

use crate::tidy::{Checkout, Violation};
use measures::Measures;

const ROWS: &str = "docs/faults.toml";
const MEASURES: &str = "docs/faults-measured.toml";
const PAGE: &str = "docs/faults.md";

/// Whether to write, to check or to measure.
#[derive(Debug, clap::Args)]
pub struct FaultsOptions {
    /// Change nothing; fail if the page is not what rows and tests say
    #[arg(long)]
    check: bool,
    /// Run the tests that measure first, and keep what they saw
    #[arg(long, conflicts_with = "check")]
    measure: bool,
}

/// Writes the page, or checks it.
///
/// # Errors
/// When a row or a citation is wrong, a test that measures fails, or, in a check, the page differs.
pub fn run(options: &FaultsOptions) -> Result<(), Error> {
    if options.check {
        return check();
    }
    if options.measure {
        let measures = measures::take(&collect::tests(&Checkout::read()?))?;
        write(MEASURES, &measures.to_toml())?;
    }
    write(PAGE, &generate()?)
}

/// Fails if the page is not what rows and tests say.
///
/// # Errors
/// The violations, or the line that differs.
pub fn check() -> Result<(), Error> {
    let (kept, fresh) = (fs::read_to_string(path(PAGE)).unwrap_or_default(), generate()?);
    if kept == fresh {
        return Ok(());
    }
    let line = 1 + kept.lines().zip(fresh.lines()).take_while(|(kept, fresh)| kept == fresh).count();
    let problem = format!("{PAGE} differs from what rows and tests say, first in line {line}");
    Err(Error::missing(problem, "run `cargo xtask faults` and commit the result"))
}

fn generate() -> Result<String, Error> {
    let checkout = Checkout::read()?;
    let rows = rows::parse(&read(ROWS)?)?;
    let measures = Measures::parse(&fs::read_to_string(path(MEASURES)).unwrap_or_default())?;
    let tests = collect::tests(&checkout);
    let mut violations = collect::check_citations(&checkout, &rows);
    violations.extend(coverage::check(&rows, &tests, &measures));
    if violations.is_empty() {
        return Ok(page::render(&rows, &tests, &measures));
    }
    violations.sort();
    let said: Vec<String> = violations.iter().map(Violation::to_string).collect();
    Err(Error::missing(said.join("\n"), format!("follow the advice in each line; rows are in {ROWS}")))
}

fn path(file: &str) -> PathBuf {
    paths::root().join(file)
}

fn read(file: &str) -> Result<String, Error> {
    fs::read_to_string(path(file)).on("read", &path(file))
}

fn write(file: &str, text: &str) -> Result<(), Error> {
    if fs::read_to_string(path(file)).is_ok_and(|kept| kept == text) {
        return Ok(());
    }
    fs::write(path(file), text).on("write", &path(file))?;
    eprintln!("wrote {file}");
    Ok(())
}
