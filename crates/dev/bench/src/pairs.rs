//! Reads the output of benchmarks inside crates: a label, a measured value and its baseline on each line.

use crate::figure::{Figure, FigureTarget};

/// Returns the figure of the values measured under `label` and of their baselines. Other lines are ignored.
pub fn figure(target: FigureTarget, printed: &str, label: &str) -> Figure {
    let (ours, baseline): (Vec<f64>, Vec<f64>) =
        printed.lines().filter_map(|line| pair(line.strip_prefix(label)?)).unzip();
    target.figure(ours, baseline)
}

fn pair(text: &str) -> Option<(f64, f64)> {
    let (ours, baseline) = text.trim().split_once(' ')?;
    Some((ours.parse().ok()?, baseline.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::SPAWN_AT_ONCE;

    #[test]
    fn pairs_are_read_by_their_label() {
        let printed = "noise\nat-once 130.5 100\none-by-one 9 2\nat-once 120 90\n";
        let read = |label| {
            let figure = figure(SPAWN_AT_ONCE, printed, label);
            [figure.samples, figure.baseline]
        };
        let [ours, baseline] = read("at-once");
        assert_eq!((ours.median(), ours.percentile(99), baseline.percentile(99)), (120.0, 130.5, 100.0));
        assert_eq!(read("one-by-one").map(|samples| samples.median()), [9.0, 2.0]);
        assert_eq!(read("other").map(|samples| samples.len()), [0, 0]);
    }
}
