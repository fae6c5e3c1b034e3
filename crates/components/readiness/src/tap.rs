//! The taps: they hand every line of every incarnation to its [`LaunchOutput`], and wake the component when there is changed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use llama_warden_bus::{OutputKey, OutputTap, TapFactory};
use llama_warden_detectors::{GENERIC, PackSet, PatternMatcher};
use llama_warden_events::{Incarnation, ServerId, StreamName};
use tokio::sync::Notify;

use crate::launch_output::{LaunchOutput, MakeFallback};

/// One launch of a server.
pub(crate) type LaunchKey = (ServerId, Incarnation);

/// The outputs of all incarnations; shared by the taps and the component. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LaunchOutputs {
    shared: Arc<SharedState>,
}

struct SharedState {
    outputs: Mutex<BTreeMap<LaunchKey, SharedOutput>>,
    /// Where the patterns come from that read a launch whose pack is not known in time.
    packs: Mutex<PackSet>,
    /// Told when there is something to take. A permit is kept, so changed between two waits is not lost.
    changed: Arc<Notify>,
}

pub(crate) type SharedOutput = Arc<Mutex<LaunchOutput>>;

impl LaunchOutputs {
    pub(crate) fn new(packs: PackSet) -> Self {
        let packs = Mutex::new(packs);
        Self { shared: Arc::new(SharedState { outputs: Mutex::default(), packs, changed: Arc::default() }) }
    }

    /// The output of a launch, made by whoever comes first. Makes room by forgetting earlier launches of that server.
    pub(crate) fn of(&self, key: &LaunchKey) -> SharedOutput {
        let mut outputs = lock(&self.shared.outputs);
        if let Some(output) = outputs.get(key) {
            return output.clone();
        }
        outputs.retain(|(server, incarnation), _| *server != key.0 || *incarnation > key.1);
        let output = Arc::new(Mutex::new(LaunchOutput::new(self.make_fallback())));
        outputs.insert(key.clone(), output.clone());
        output
    }

    /// Forgets a launch. Its taps may go on; nobody hears them.
    pub(crate) fn remove(&self, key: &LaunchKey) {
        lock(&self.shared.outputs).remove(key);
    }

    /// Waits until a output has something to take.
    pub(crate) async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    /// Other packs are in force.
    pub(crate) fn set_packs(&self, packs: PackSet) {
        *lock(&self.shared.packs) = packs;
    }

    fn make_fallback(&self) -> MakeFallback {
        let generic = lock(&self.shared.packs).get(GENERIC).cloned();
        Box::new(|| match generic {
            Some(pack) => Box::new(pack.matcher(None)),
            None => Box::new(PatternMatcher::empty()),
        })
    }
}

impl TapFactory for LaunchOutputs {
    fn tap(&self, key: &OutputKey) -> Option<Box<dyn OutputTap>> {
        let output = self.of(&(key.server.clone(), key.incarnation));
        Some(Box::new(Tap { stream: key.stream, output, changed: self.shared.changed.clone() }))
    }
}

struct Tap {
    stream: StreamName,
    output: SharedOutput,
    changed: Arc<Notify>,
}

impl OutputTap for Tap {
    fn on_line(&mut self, line: &[u8]) {
        let changed = lock(&self.output).on_line(self.stream, line);
        if changed {
            self.changed.notify_one();
        }
    }
}

/// A poisoned lock only says that a reader died between two lines; every line leaves a output whole.
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
            let outputs = LaunchOutputs::new(PackSet::built_in());
            let key = key(1);
            let output = outputs.of(&(key.server.clone(), key.incarnation));
            let pack = lock(&outputs.shared.packs).get("llama-server-b11xxx").expect("there").clone();
            let set = || lock(&output).set_matcher(Box::new(pack.matcher(Some(8001))));
            let mut tap = outputs.tap(&key).expect("a tap");
            let mut push = || tap.on_line(b"0.00.022.002 I srv  llama_server: listening on http://127.0.0.1:8001\r");
            let found = if matcher_comes_first {
                set();
                push();
                tokio::time::timeout(std::time::Duration::from_secs(5), outputs.changed()).await.is_ok()
            } else {
                push();
                set()
            };
            assert!(found);
            assert_eq!(lock(&output).take().hints.len(), 1);
        }
    }

    #[test]
    fn a_new_launch_replaces_the_reading_of_the_one_before() {
        let outputs = LaunchOutputs::new(PackSet::built_in());
        let _late = outputs.tap(&key(1));
        let _tap = outputs.tap(&key(2));
        assert_eq!(lock(&outputs.shared.outputs).len(), 1);
    }
}
