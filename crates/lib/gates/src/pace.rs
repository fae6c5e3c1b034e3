//! How long the launches of a server load and its requests work: what a client is told about when to come again.

use std::time::Duration;

/// The weight of the latest request is one part of so many.
const PARTS: u32 = 8;

/// The load times that are remembered.
const LOADS: usize = 5;

/// The times that the latest launches took to become ready.
#[derive(Debug, Default, Clone)]
pub(crate) struct LoadPace(Vec<Duration>);

impl LoadPace {
    /// A launch took so long.
    pub(crate) fn note(&mut self, took: Duration) {
        self.0.truncate(LOADS - 1);
        self.0.insert(0, took);
    }

    /// `None` before the first one.
    pub(crate) fn median(&self) -> Option<Duration> {
        let mut times = self.0.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied()
    }
}

/// The mean time of the requests of a server, in which later ones weigh more.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct WorkPace(Option<Duration>);

impl WorkPace {
    /// A request has worked for so long.
    pub(crate) fn note(&mut self, took: Duration) {
        self.0 = Some(self.0.map_or(took, |mean| (mean.saturating_mul(PARTS - 1).saturating_add(took)) / PARTS));
    }

    /// `None` before the first one.
    pub(crate) const fn mean(self) -> Option<Duration> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_takes_as_long_as_the_middle_one_of_the_latest_five() {
        let mut loads = LoadPace::default();
        assert_eq!(loads.median(), None);
        [90, 1, 2, 3, 60, 5].into_iter().for_each(|seconds| loads.note(Duration::from_secs(seconds)));
        assert_eq!(loads.median(), Some(Duration::from_secs(3)), "the first is forgotten");
    }

    #[test]
    fn the_mean_follows_the_latest_requests() {
        let mut pace = WorkPace::default();
        assert_eq!(pace.mean(), None);
        pace.note(Duration::from_secs(8));
        assert_eq!(pace.mean(), Some(Duration::from_secs(8)));
        pace.note(Duration::from_secs(16));
        assert_eq!(pace.mean(), Some(Duration::from_secs(9)));
        (0..100).for_each(|_| pace.note(Duration::from_secs(1)));
        assert!(pace.mean().is_some_and(|mean| mean < Duration::from_millis(1100)), "{pace:?}");
    }
}
