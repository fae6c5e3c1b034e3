//! A subscriber that records log events, for tests.

use std::sync::{Arc, Mutex};

use llama_warden_support::lock;
use tracing::field::{Field, Visit};
use tracing::{Level, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::{Layer, Registry};

/// Level and fields of every event.
#[derive(Debug, Clone, Default)]
pub struct RecordedLog(Arc<Mutex<Vec<(Level, String)>>>);

impl RecordedLog {
    /// A subscriber that records.
    pub fn subscriber(&self) -> impl Subscriber + Send + Sync + 'static {
        Registry::default().with(self.clone())
    }

    /// Takes what was recorded so far.
    pub fn take(&self) -> Vec<(Level, String)> {
        std::mem::take(&mut *lock(&self.0))
    }
}

impl Layer<Registry> for RecordedLog {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, Registry>) {
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        lock(&self.0).push((*event.metadata().level(), fields.0));
    }
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.push_str(&format!("{field}={value:?} "));
    }
}
