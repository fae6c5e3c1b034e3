//! How fast lines go through patterns and ring, without a pipe: judges what readiness' own benchmark prints.

use super::figure::{Baseline, Budget, Figure, Samples, Unit};
use crate::cargo::cargo;
use crate::error::Error;
use crate::shell;

/// Measures.
///
/// # Errors
/// When the benchmark does not build or run.
pub fn measure() -> Result<Vec<Figure>, Error> {
    let bench = ["bench", "--quiet", "--package", "llama-warden-readiness", "--bench", "matching"];
    Ok(vec![figure(&shell::read(cargo().args(bench))?)])
}

fn figure(printed: &str) -> Figure {
    let speed = |line: &str| line.trim_end().strip_suffix("MB/s")?.split_whitespace().last()?.parse().ok();
    let (whole, alone): (Vec<&str>, Vec<&str>) = printed.lines().partition(|line| line.starts_with("the whole lane"));
    Figure {
        name: "patterns and ring alone",
        unit: Unit::MegabytesPerSecond,
        samples: Samples::of(whole.into_iter().filter_map(speed)),
        baseline: Baseline { what: "patterns of each pack", samples: Samples::of(alone.into_iter().filter_map(speed)) },
        budget: Budget::AtLeast(300.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speeds_of_the_other_benchmark_are_read() {
        let figure =
            figure("91 recorded lines, 80 bytes on average\na-pack 500 MB/s\nb 700 MB/s\nthe whole lane   412 MB/s\n");
        assert_eq!((figure.samples.median(), figure.baseline.samples.median()), (412.0, 500.0));
    }
}
