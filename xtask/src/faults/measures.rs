//! What the tests measured: `docs/faults-measured.toml`, and the run that writes it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use llama_warden_test_parts::cargo::cargo;
use llama_warden_test_parts::error::{Error, OnPath};
use llama_warden_test_parts::{paths, shell};
use toml::Table;

use super::MEASURES;
use super::collect::FaultTest;
use super::rows::FaultCode;

/// The variable by which `llama_warden_tests::measured` finds the file of its measurements.
const VARIABLE: &str = "LLAMA_WARDEN_TEST_MEASURES";

/// The folder of the only tests that measure: those of real processes.
const FOLDER: &str = "tests/system/";

/// The longest time of each measurement, in milliseconds, by code and by what was measured.
#[derive(Debug, Default, PartialEq)]
pub struct Measures(BTreeMap<FaultCode, BTreeMap<String, f64>>);

/// Runs the tests that measure, one after the other, and returns what they saw.
///
/// # Errors
/// When a test fails, or wrote what is no measurement.
pub fn take(tests: &[FaultTest]) -> Result<Measures, Error> {
    let names: Vec<String> = tests.iter().filter(|test| test.measures).filter_map(test_name).collect();
    let file = paths::target().join("faults-measured.tsv");
    fs::write(&file, "").on("write", &file)?;
    shell::run(cargo().args(["build", "--workspace", "--bins"]))?;
    let mut run = cargo();
    run.args(["test", "--package", "llama-warden-tests", "--test", "system", "--", "--exact", "--test-threads=1"]);
    shell::run(run.args(&names).env(VARIABLE, &file))?;
    Measures::of_lines(&fs::read_to_string(&file).on("read", &file)?)
}

/// The name by which the runner knows a system test.
fn test_name(test: &FaultTest) -> Option<String> {
    let module = test.path.strip_prefix(FOLDER)?.strip_suffix(".rs")?;
    Some(format!("{module}::{}", test.name))
}

impl Measures {
    /// Reads lines of code, description and milliseconds, separated by tabs.
    fn of_lines(text: &str) -> Result<Self, Error> {
        let mut measures = Self::default();
        for line in text.lines() {
            let mut fields = line.split('\t');
            let (code, what, took) = (fields.next().and_then(FaultCode::parse), fields.next(), fields.next());
            let (Some(code), Some(what), Some(Ok(took))) = (code, what, took.map(str::parse::<f64>)) else {
                return Err(Error::missing(format!("`{line}` is no measurement"), "look at the test that wrote it"));
            };
            let kept = measures.0.entry(code).or_default().entry(what.to_owned()).or_insert(took);
            *kept = kept.max(took);
        }
        Ok(measures)
    }

    /// Reads `docs/faults-measured.toml`.
    ///
    /// # Errors
    /// Text that the chore has not written.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong =
            || Error::missing(format!("{MEASURES} is not as it was written"), "run `cargo xtask faults --measure`");
        let tables: Table = text.parse().map_err(|_| wrong())?;
        let mut measures = Self::default();
        for (code, table) in &tables {
            let (code, table) = FaultCode::parse(code).zip(table.as_table()).ok_or_else(wrong)?;
            for (what, took) in table {
                let took = took.as_float().ok_or_else(wrong)?;
                measures.0.entry(code).or_default().insert(what.clone(), took);
            }
        }
        Ok(measures)
    }

    pub fn to_toml(&self) -> String {
        let mut text =
            "# Milliseconds that tests measured, the longest of one run. Written by `cargo xtask faults --measure`.\n"
                .to_owned();
        for (code, measured) in &self.0 {
            let _ = write!(text, "\n[{code}]\n");
            for (what, took) in measured {
                let _ = writeln!(text, "\"{what}\" = {took:.1}");
            }
        }
        text
    }

    pub fn codes(&self) -> impl Iterator<Item = &FaultCode> {
        self.0.keys()
    }

    /// What was measured for a row, as text; empty where nothing was.
    pub fn text(&self, code: FaultCode) -> String {
        let measured = self.0.get(&code).into_iter().flatten();
        let texts = measured.map(|(what, took)| match *took {
            took if took < 10.0 => format!("{what} {took:.1} ms"),
            took if took < 10_000.0 => format!("{what} {took:.0} ms"),
            took => format!("{what} {:.1} s", took / 1000.0),
        });
        texts.collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_of_several_is_kept_and_read_again() {
        let measures =
            Measures::of_lines("C24\texit seen after\t3.25\nC24\texit seen after\t41.0\nS1\tgone after\t20000.0\n")
                .expect("read");
        let code = |word| FaultCode::parse(word).expect("a code");
        assert_eq!(measures.text(code("C24")), "exit seen after 41 ms");
        assert_eq!(measures.text(code("S1")), "gone after 20.0 s");
        assert_eq!(measures.text(code("C1")), "");
        assert_eq!(Measures::parse(&measures.to_toml()).expect("read"), measures);
        assert!(Measures::of_lines("C24 5").is_err());
    }
}
