//! Measures how much the memory of a daemon grows while one server is restarted many times, by the chore that does so for longer.

use llama_warden_test_parts::error::Error;

use crate::Effort;
use crate::figure::Figure;
use crate::programs::Programs;
use crate::soak;
use crate::targets::RESTARTS_MEMORY;

/// Restarts one server and compares the memory at rest before and after.
///
/// # Errors
/// When the daemon does not do what it is told.
pub fn measure(programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
    let comparisons = soak::after_restarts(programs, effort.pick(2000, 100), 1)?;
    let memory = comparisons.iter().filter(|comparison| comparison.what.starts_with("resident memory"));
    let (growth, before): (Vec<f64>, Vec<f64>) =
        memory.map(|memory| (memory.late as f64 - memory.early as f64, memory.early as f64)).unzip();
    Ok(vec![RESTARTS_MEMORY.figure(growth, before)])
}
