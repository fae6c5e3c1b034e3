//! How long the requests of a server work: what a client is told about when to come again.

use std::time::Duration;

/// The weight of the latest request is one part of so many.
const PARTS: u32 = 8;

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
