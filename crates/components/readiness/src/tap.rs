//! The taps: they hand every line of every incarnation to its [`Reading`], and wake the component when there is news.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use llama_warden_bus::{OutputKey, OutputTap, TapFactory};
use llama_warden_detectors::{GENERIC, PackSet, PatternMatcher};
use llama_warden_events::{Incarnation, ServerId, StreamName};
use tokio::sync::Notify;

use crate::reading::{Fallback, Reading};

/// One launch of a server.
pub(crate) type LaunchKey = (ServerId, Incarnation);

/// The readings of all incarnations; shared by the taps and the component. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Readings {
    shared: Arc<Shared>,
}

struct Shared {
    readings: Mutex<BTreeMap<LaunchKey, SharedReading>>,
    /// Where the patterns come from that read a launch whose pack is not known in time.
    packs: Mutex<PackSet>,
    /// Told when there is something to take. A permit is kept, so news between two waits is not lost.
    news: Arc<Notify>,
}

pub(crate) type SharedReading = Arc<Mutex<Reading>>;

impl Readings {
    pub(crate) fn new(packs: PackSet) -> Self {
        let packs = Mutex::new(packs);
        Self { shared: Arc::new(Shared { readings: Mutex::default(), packs, news: Arc::default() }) }
    }

    /// The reading of a launch, made by whoever comes first. Makes room by forgetting earlier launches of that server.
    pub(crate) fn of(&self, key: &LaunchKey) -> SharedReading {
        let mut readings = lock(&self.shared.readings);
        if let Some(reading) = readings.get(key) {
            return reading.clone();
        }
        readings.retain(|(server, incarnation), _| *server != key.0 || *incarnation > key.1);
        let reading = Arc::new(Mutex::new(Reading::new(self.fallback())));
        readings.insert(key.clone(), reading.clone());
        reading
    }

    /// Forgets a launch. Its taps may go on; nobody hears them.
    pub(crate) fn forget(&self, key: &LaunchKey) {
        lock(&self.shared.readings).remove(key);
    }

    /// Waits until a reading has something to take.
    pub(crate) async fn news(&self) {
        self.shared.news.notified().await;
    }

    /// Other packs are in force.
    pub(crate) fn fall_back_to(&self, packs: PackSet) {
        *lock(&self.shared.packs) = packs;
    }

    fn fallback(&self) -> Fallback {
        let generic = lock(&self.shared.packs).get(GENERIC).cloned();
        Box::new(|| match generic {
            Some(pack) => Box::new(pack.matcher(None)),
            None => Box::new(PatternMatcher::blank()),
        })
    }
}

impl TapFactory for Readings {
    fn tap(&self, key: &OutputKey) -> Option<Box<dyn OutputTap>> {
        let reading = self.of(&(key.server.clone(), key.incarnation));
        Some(Box::new(Tap { stream: key.stream, reading, news: self.shared.news.clone() }))
    }
}

struct Tap {
    stream: StreamName,
    reading: SharedReading,
    news: Arc<Notify>,
}

impl OutputTap for Tap {
    fn on_line(&mut self, line: &[u8]) {
        let news = lock(&self.reading).on_line(self.stream, line);
        if news {
            self.news.notify_one();
        }
    }
}

/// A poisoned lock only says that a reader died between two lines; every line leaves a reading whole.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(incarnation: u32) -> OutputKey {
        OutputKey {
            server: ServerId::new("a").expect("valid"),
            incarnation: Incarnation::new(incarnation.into()),
            stream: StreamName::Stderr,
        }
    }

    #[tokio::test]
    async fn a_line_before_and_after_its_matcher_wakes_the_component() {
        for matcher_comes_first in [true, false] {
            let readings = Readings::new(PackSet::built_in());
            let key = key(1);
            let reading = readings.of(&(key.server.clone(), key.incarnation));
            let pack = lock(&readings.shared.packs).get("llama-server-b11xxx").expect("there").clone();
            let set = || lock(&reading).read_with(Box::new(pack.matcher(Some(8001))));
            let mut tap = readings.tap(&key).expect("a tap");
            let mut push = || tap.on_line(b"0.00.022.002 I srv  llama_server: listening on http://127.0.0.1:8001\r");
            let found = if matcher_comes_first {
                set();
                push();
                tokio::time::timeout(std::time::Duration::from_secs(5), readings.news()).await.is_ok()
            } else {
                push();
                set()
            };
            assert!(found);
            assert_eq!(lock(&reading).take().hints.len(), 1);
        }
    }

    #[test]
    fn a_new_launch_replaces_the_reading_of_the_one_before() {
        let readings = Readings::new(PackSet::built_in());
        let _late = readings.tap(&key(1));
        let _tap = readings.tap(&key(2));
        assert_eq!(lock(&readings.shared.readings).len(), 1);
    }
}
