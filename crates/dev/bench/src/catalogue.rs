//! Measures how long the discovery of a thousand models takes and how much it reads.
//!
//! The catalogue's own benchmark measures; this module judges its output.

use llama_warden_test_parts::error::Error;

use crate::Effort;
use crate::figure::Figure;
use crate::targets::{DISCOVERY_READ, DISCOVERY_TIME};
use crate::{pairs, programs};

/// Measures time and bytes read.
///
/// # Errors
/// When the benchmark does not build or run.
pub fn measure(effort: Effort) -> Result<Vec<Figure>, Error> {
    let runs = effort.pick("9", "3");
    let printed = programs::run_crate_bench("llama-warden-catalog", "discovery", &[runs.as_ref()])?;
    Ok(vec![pairs::figure(DISCOVERY_TIME, &printed, "whole"), pairs::figure(DISCOVERY_READ, &printed, "prefix")])
}
