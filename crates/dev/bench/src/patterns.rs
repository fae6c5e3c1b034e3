//! Measures how fast lines go through patterns and ring, without a pipe, and compares patterns with a plain substring search.
//!
//! The detectors' own benchmark measures; this module judges its output.

use llama_warden_test_parts::error::Error;

use crate::figure::Figure;
use crate::programs;
use crate::targets::{LANE_SPEED, PATTERN_COST};

// The text that the benchmark prints after each number.
const SPEED: &str = " MB/s";
const ONE_PHRASE: &str = " x the time of one phrase";
const FOUR_PHRASES: &str = " x of four";

/// Measures speed and cost of the patterns.
///
/// # Errors
/// When the benchmark does not build or run.
pub fn measure() -> Result<Vec<Figure>, Error> {
    let run = programs::run_crate_bench;
    let printed = run("llama-warden-detectors", "matching", &[])? + &run("llama-warden-readiness", "lane", &[])?;
    Ok(figures(&printed))
}

fn figures(printed: &str) -> Vec<Figure> {
    let number = |line: &str, unit: &str| line.split_once(unit)?.0.split_whitespace().last()?.parse().ok();
    let whole: Vec<&str> = printed.lines().filter(|line| line.starts_with("the whole lane")).collect();
    // The line of the searches themselves compares nothing.
    let packs: Vec<&str> = printed.lines().filter(|line| line.contains(ONE_PHRASE)).collect();
    let samples = |lines: &[&str], unit| lines.iter().filter_map(|line| number(line, unit)).collect::<Vec<f64>>();
    vec![
        LANE_SPEED.figure(samples(&whole, SPEED), samples(&packs, SPEED)),
        PATTERN_COST.figure(samples(&packs, ONE_PHRASE), samples(&packs, FOUR_PHRASES)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_the_other_benchmarks_are_read() {
        let figures = figures(
            "91 recorded lines, 80 bytes on average\n\
             substring search: 9000 MB/s for one phrase, 2500 MB/s for four, of the same lines\n\
             a-pack   5.1 x the time of one phrase,   1.5 x of four,   1500 MB/s\n\
             b        6.2 x the time of one phrase,   1.7 x of four,   1700 MB/s\n\
             the whole lane    412 MB/s\n",
        );
        let read = figures.iter().map(|it| (it.samples.percentile(100), it.baseline.percentile(100)));
        assert_eq!(read.collect::<Vec<_>>(), [(412.0, 1700.0), (6.2, 1.7)]);
    }
}
