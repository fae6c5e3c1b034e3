//! Measures the metrics page: how long that of a thousand running servers takes and is, and how long servers that hang delay the look
//! at fifty.
//!
//! The benchmark of the crate `metrics` measures, without a thousand processes; this module judges its output.

use llama_warden_test_parts::error::Error;

use crate::Effort;
use crate::figure::Figure;
use crate::targets::{PAGE_OF_HANGING, PAGE_RUNNING, PAGE_TIME, PAGE_WAITING};
use crate::{pairs, programs};

/// Measures time and length of pages.
///
/// # Errors
/// When the benchmark does not build or run.
pub fn measure(effort: Effort) -> Result<Vec<Figure>, Error> {
    let rounds = effort.pick("50", "5");
    let printed = programs::run_crate_bench("llama-warden-metrics", "scrape", &[rounds.as_ref()])?;
    let figures =
        [(PAGE_TIME, "render"), (PAGE_RUNNING, "running"), (PAGE_WAITING, "waiting"), (PAGE_OF_HANGING, "hanging")];
    Ok(figures.map(|(target, label)| pairs::figure(target, &printed, label)).to_vec())
}
