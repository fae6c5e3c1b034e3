//! The taps on the output lane: each passes the lines of one stream to its [`LaunchOutput`], and wakes the component.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use llama_warden_bus::{OutputKey, OutputTap, TapFactory};
use llama_warden_detectors::{GENERIC, PackSet, PatternMatcher};
use llama_warden_events::{Incarnation, ServerId, StreamName};
use llama_warden_requests::RequestLog;
use llama_warden_support::lock;
use tokio::sync::Notify;

use crate::launch_output::{LaunchOutput, MakeFallback};
use crate::launch_requests::LaunchRequests;

/// Names one launch of a server.
pub(crate) type LaunchKey = (ServerId, Incarnation);

pub(crate) type SharedOutput = Arc<Mutex<LaunchOutput>>;

/// The outputs of all launches, shared by the taps and the component.
pub(crate) struct LaunchOutputs {
    outputs: Mutex<BTreeMap<LaunchKey, SharedOutput>>,
    /// The packs in force: their generic one matches a launch whose own is not chosen in time.
    packs: Mutex<PackSet>,
    /// Notified when an output has something new. It keeps one permit, so that a change between two waits is not lost.
    changed: Arc<Notify>,
    requests: RequestLog,
}

impl LaunchOutputs {
    pub(crate) fn new(packs: PackSet, requests: RequestLog) -> Self {
        Self { outputs: Mutex::default(), packs: Mutex::new(packs), changed: Arc::default(), requests }
    }

    /// The output of a launch. A tap may ask before the component or after it: the first one creates the output, and removes
    /// those of earlier launches of the server.
    pub(crate) fn get_or_create(&self, key: &LaunchKey) -> SharedOutput {
        let mut outputs = lock(&self.outputs);
        if let Some(output) = outputs.get(key) {
            return output.clone();
        }
        outputs.retain(|(server, incarnation), _| *server != key.0 || *incarnation > key.1);
        let requests = LaunchRequests::new(self.requests.clone(), key.0.clone(), key.1);
        let output = Arc::new(Mutex::new(LaunchOutput::new(self.make_fallback(), requests)));
        outputs.insert(key.clone(), output.clone());
        output
    }

    /// Removes a launch, whose slots are gone, and returns its output. Its taps may still write to that.
    pub(crate) fn remove(&self, key: &LaunchKey) -> Option<SharedOutput> {
        self.requests.free_slots(&key.0, key.1);
        lock(&self.outputs).remove(key)
    }

    /// Waits until an output has something new.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Other packs are in force.
    pub(crate) fn set_packs(&self, packs: PackSet) {
        *lock(&self.packs) = packs;
    }

    fn make_fallback(&self) -> MakeFallback {
        let generic = lock(&self.packs).get(GENERIC).cloned();
        Box::new(|| Box::new(generic.map_or_else(PatternMatcher::empty, |pack| pack.matcher(None))))
    }
}

impl TapFactory for LaunchOutputs {
    fn tap(&self, key: &OutputKey) -> Option<Box<dyn OutputTap>> {
        let output = self.get_or_create(&(key.server.clone(), key.incarnation));
        Some(Box::new(Tap { stream: key.stream, output, changed: self.changed.clone() }))
    }
}

struct Tap {
    stream: StreamName,
    output: SharedOutput,
    changed: Arc<Notify>,
}

impl OutputTap for Tap {
    fn on_line(&mut self, line: &[u8]) {
        let has_news = lock(&self.output).on_line(self.stream, line);
        if has_news {
            self.changed.notify_one();
        }
    }

    fn on_activity(&mut self) {
        lock(&self.output).on_activity();
    }

    fn on_pause(&mut self) {
        lock(&self.output).on_pause();
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_events::Uptime;

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
            let outputs = LaunchOutputs::new(PackSet::built_in(), RequestLog::default());
            let key = key(1);
            let output = outputs.get_or_create(&(key.server.clone(), key.incarnation));
            let pack = lock(&outputs.packs).get("llama-server-b11xxx").expect("there").clone();
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
            assert_eq!(lock(&output).take_summary(Uptime::default()).hints.len(), 1);
        }
    }

    #[test]
    fn a_new_launch_replaces_the_output_of_the_one_before() {
        let outputs = LaunchOutputs::new(PackSet::built_in(), RequestLog::default());
        let _late = outputs.tap(&key(1));
        let _tap = outputs.tap(&key(2));
        assert_eq!(lock(&outputs.outputs).len(), 1);
    }
}
