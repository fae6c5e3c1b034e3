//! Measures how long the discovery of a thousand models takes and how much it reads.
//!
//! The catalogue's own benchmark measures; this module judges its output.

use xtask::error::Error;

use crate::Effort;
use crate::figure::{Baseline, Budget, Figure, Unit};
use crate::{pairs, programs};

const TIME: Budget = Budget::AtMost { median: 1000.0, p99: 2000.0 };
/// A discovery skips arrays of numbers, and reads blocks that end a little after what it needs: less than the whole header.
const READ: Budget = Budget::TimesBaseline(1.0);

/// Measures time and bytes read.
///
/// # Errors
/// When the benchmark does not build or run.
pub fn measure(effort: Effort) -> Result<Vec<Figure>, Error> {
    let runs = effort.pick("9", "3");
    let printed = programs::run_crate_bench("llama-warden-catalog", "discovery", &[runs.as_ref()])?;
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
