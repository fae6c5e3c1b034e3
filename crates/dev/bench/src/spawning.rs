//! Compares the time to spawn a hundred servers with a plain loop over the same command lines.
//!
//! The launcher's own benchmark measures, because it reaches private functions; this module judges its output.

use llama_warden_test_parts::error::Error;

use crate::Effort;
use crate::figure::Figure;
use crate::pairs;
use crate::programs::{self, Programs};
use crate::targets::{SPAWN_AT_ONCE, SPAWN_ONE_BY_ONE};

/// Measures spawning all servers at once, and one after the other.
///
/// # Errors
/// When the benchmark does not build or run.
pub fn measure(programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
    let folder = programs::empty_folder()?;
    let model = programs::model(folder.path(), "tiny", 0)?;
    let (daemon, stand_in, runs) = (programs.daemon.as_ref(), programs.stand_in.as_ref(), effort.pick("9", "3"));
    let arguments = [daemon, stand_in, model.as_ref(), runs.as_ref()];
    let printed = programs::run_crate_bench("llama-warden-launcher", "spawning", &arguments)?;
    Ok(vec![pairs::figure(SPAWN_AT_ONCE, &printed, "at-once"), pairs::figure(SPAWN_ONE_BY_ONE, &printed, "one-by-one")])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spawn_is_held_against_the_bare_one_beside_it() {
        let printed = "at-once 130.5 100\none-by-one 9 2\nat-once 120 100\n";
        let at_once = pairs::figure(SPAWN_AT_ONCE, printed, "at-once");
        assert_eq!((at_once.ratio(), at_once.is_within_budget()), (1.2, true));
        assert_eq!(pairs::figure(SPAWN_ONE_BY_ONE, printed, "one-by-one").ratio(), 4.5);
    }

    #[test]
    fn a_benchmark_that_printed_nothing_is_over_budget() {
        assert!(!pairs::figure(SPAWN_AT_ONCE, "", "at-once").is_within_budget());
    }
}
