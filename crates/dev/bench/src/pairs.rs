//! Reads the output of benchmarks inside crates: a label, a measured value and its baseline on each line.

use crate::figure::Samples;

/// Returns the values measured under `label` and their baselines. Other lines are ignored.
pub fn read(printed: &str, label: &str) -> [Samples; 2] {
    let pairs: Vec<(f64, f64)> = printed.lines().filter_map(|line| pair(line.strip_prefix(label)?)).collect();
    [Samples::of(pairs.iter().map(|(ours, _)| *ours)), Samples::of(pairs.iter().map(|(_, baseline)| *baseline))]
}

fn pair(text: &str) -> Option<(f64, f64)> {
    let (ours, baseline) = text.trim().split_once(' ')?;
    Some((ours.parse().ok()?, baseline.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_by_their_label() {
        let printed = "noise\nat-once 130.5 100\none-by-one 9 2\nat-once 120 90\n";
        let [ours, baseline] = read(printed, "at-once");
        assert_eq!((ours.median(), ours.percentile(99), baseline.percentile(99)), (120.0, 130.5, 100.0));
        assert_eq!(read(printed, "one-by-one").map(|samples| samples.median()), [9.0, 2.0]);
        assert_eq!(read(printed, "other").map(|samples| samples.len()), [0, 0]);
    }
}
