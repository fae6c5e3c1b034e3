//! What an export asks of the log, in a process of its own: what one subscriber wants changes it for all.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;
use common::{AMPLE, Collector, Run};
use llama_warden_events::{Event, Warning};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Metadata, Subscriber};

/// How often a subscriber was asked whether it wants what a place logs.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// The log, at level info.
struct Log;

impl Subscriber for Log {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        ASKED.fetch_add(1, Ordering::Relaxed);
        *metadata.level() <= LevelFilter::INFO
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn event(&self, _: &tracing::Event<'_>) {}

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

async fn export(events: usize) {
    let collector = Collector::start(StatusCode::OK).await;
    let warned = || Event::ServerWarned { warning: Warning::OptionDropped, detail: String::new() };
    let lost = Run::start(&collector.endpoint, &[]).play(std::iter::repeat_with(warned).take(events), AMPLE).await;
    assert!(lost.is_empty(), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exported_event_makes_nobody_ask_what_is_logged() {
    tracing::subscriber::set_global_default(Log).expect("the only one");
    // Each place is asked about when it first logs.
    export(1).await;
    let before = ASKED.load(Ordering::Relaxed);
    export(200).await;
    for _ in 0..200 {
        tracing::debug!("what nobody wants");
    }
    let asked = ASKED.load(Ordering::Relaxed) - before;
    assert!(asked < 100, "asked {asked} times");
}
