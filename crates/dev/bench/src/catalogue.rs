//! How long it takes to discover a thousand models, and how much of them is read: judges what the catalogue's own benchmark
//! prints.

use xtask::cargo::cargo;
use xtask::error::Error;
use xtask::shell;

use crate::Effort;
use crate::figure::{Baseline, Budget, Figure, Unit};
use crate::pairs;

const TIME: Budget = Budget::AtMost { median: 1000.0, p99: 2000.0 };
/// A discovery passes over arrays of numbers without reading them, and reads a little more than the rest.
const READ: Budget = Budget::TimesBaseline(1.0);

/// Measures.
///
/// # Errors
/// When the benchmark does not build or run.
pub fn measure(effort: Effort) -> Result<Vec<Figure>, Error> {
    let mut bench = cargo();
    bench.args(["bench", "--quiet", "--package", "llama-warden-catalog", "--bench", "discovery", "--"]);
    let printed = shell::read(bench.arg(effort.pick(9, 3).to_string()))?;
    let [time, plain_time] = pairs::read(&printed, "whole");
    let [read, header] = pairs::read(&printed, "prefix");
    Ok(vec![
        Figure {
            name: "discovery of 1000 models",
            unit: Unit::Milliseconds,
            samples: time,
            baseline: Baseline { what: "plain reads of headers", samples: plain_time },
            budget: TIME,
        },
        Figure {
            name: "read of one model",
            unit: Unit::Kibibytes,
            samples: read,
            baseline: Baseline { what: "its header", samples: header },
            budget: READ,
        },
    ])
}
