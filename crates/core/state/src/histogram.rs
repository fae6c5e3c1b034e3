//! A histogram with fixed bounds. It is part of the snapshot, so a slow scraper cannot miss observations.

use llama_warden_events::HistogramTotals;
use serde::Serialize;

use crate::Tally;

/// Counts of observations by upper bound, in seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Histogram {
    #[serde(skip)]
    bounds: &'static [f64],
    /// Counts by the index of the bound. Values above the last bound are in no bucket.
    buckets: Tally<usize>,
    sum: f64,
    count: u64,
}

impl Histogram {
    /// Bounds for the time from spawn to ready: a tiny model takes milliseconds, a large one from a slow disk minutes.
    pub const READY_SECONDS: &'static [f64] =
        &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];

    /// Bounds for the time from a stop request to the reaped process: idle servers take milliseconds, 10 s is the default grace.
    pub const STOP_SECONDS: &'static [f64] =
        &[0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0];

    /// An empty histogram over ascending upper bounds.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, ..Self::default() }
    }

    /// One that was counted elsewhere: a count for each bound, and one for what is above.
    pub fn of_buckets(bounds: &'static [f64], counts: &[u64], sum: f64) -> Self {
        let mut histogram = Self { bounds, sum, count: counts.iter().sum(), ..Self::default() };
        let occurred = counts.iter().take(bounds.len()).enumerate().filter(|(_, count)| **count > 0);
        occurred.for_each(|(bucket, count)| histogram.buckets.add(bucket, *count));
        histogram
    }

    /// Goes on with what was counted elsewhere; `None` within other bounds.
    pub fn restored(bounds: &'static [f64], totals: &HistogramTotals) -> Option<Self> {
        let fits = totals.bounds == bounds && totals.counts.len() == bounds.len() + 1 && totals.sum.is_finite();
        fits.then(|| Self::of_buckets(bounds, &totals.counts, totals.sum))
    }

    /// What was counted; `None` before the first value.
    pub fn totals(&self) -> Option<HistogramTotals> {
        let within: u64 = self.buckets.total();
        let mut counts: Vec<_> = (0..self.bounds.len()).map(|bucket| self.buckets.of(bucket)).collect();
        counts.push(self.count.saturating_sub(within));
        (self.count > 0).then(|| HistogramTotals { bounds: self.bounds.to_vec(), counts, sum: self.sum })
    }

    /// Counts one value; one that is negative or not finite counts as zero.
    pub fn observe(&mut self, seconds: f64) {
        let seconds = if seconds.is_finite() { seconds.max(0.0) } else { 0.0 };
        if let Some(bucket) = self.bounds.iter().position(|bound| seconds <= *bound) {
            self.buckets.count(bucket);
        }
        self.sum += seconds;
        self.count += 1;
    }

    /// Upper bounds with the count of all values up to each, as Prometheus defines buckets, without the infinite one.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        self.bounds.iter().enumerate().scan(0, |total, (bucket, bound)| {
            *total += self.buckets.of(bucket);
            Some((*bound, *total))
        })
    }

    /// The mean of all values; `None` before the first one.
    pub fn mean(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "nothing is observed 2^52 times")]
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// Sum of all values.
    pub const fn sum(&self) -> f64 {
        self.sum
    }

    /// Number of all values.
    pub const fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_counts_in_every_bucket_above_it() {
        let mut histogram = Histogram::new(&[1.0, 2.0]);
        for seconds in [0.5, 1.0, 1.5, 9.0, f64::NAN] {
            histogram.observe(seconds);
        }
        assert_eq!(histogram.cumulative().collect::<Vec<_>>(), [(1.0, 3), (2.0, 4)]);
        assert_eq!((histogram.count(), histogram.sum()), (5, 12.0));
    }

    #[test]
    fn a_histogram_goes_on_within_the_same_bounds_only() {
        let mut histogram = Histogram::new(&[1.0, 2.0]);
        assert_eq!(histogram.totals(), None);
        [0.5, 1.5, 9.0].into_iter().for_each(|seconds| histogram.observe(seconds));
        let totals = histogram.totals().expect("counted");
        assert_eq!(Histogram::restored(&[1.0, 2.0], &totals), Some(histogram));
        assert_eq!(Histogram::restored(&[1.0, 3.0], &totals), None);
        assert_eq!(Histogram::restored(&[1.0, 2.0], &HistogramTotals { sum: f64::NAN, ..totals }), None);
    }
}
