//! What the log says about an event, as a value.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use llama_warden_events::Envelope;
use llama_warden_support::lock;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::with_default;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::line;

/// The text of a log line, without its time and without what the envelope says by itself: number, server and launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// How much it matters.
    pub level: Level,
    /// The text, and the values as `name=value`.
    pub text: String,
}

/// What the log says about an event.
pub fn sentence(envelope: &Envelope) -> Sentence {
    let said = Listener::default();
    with_default(said.clone(), || line::log(envelope));
    // Each event is one line.
    lock(&said.0).take().unwrap_or_else(|| Sentence { level: Level::DEBUG, text: envelope.event.kind().to_owned() })
}

/// Keeps the latest line.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Option<Sentence>>>);

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        let mut words = Words::default();
        event.record(&mut words);
        *lock(&self.0) = Some(Sentence { level: *event.metadata().level(), text: words.text + &words.values });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Words {
    text: String,
    values: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing into a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.text, "{value:?}"),
            "seq" | "event" | "server" | "incarnation" => Ok(()),
            name => write!(self.values, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_component_kit::server;
    use llama_warden_events::{BootId, Event, FailureReason, MemoryEstimate, Seq, Timestamp, Uptime};

    use super::*;

    #[test]
    fn an_event_is_said_as_the_log_says_it() {
        let envelope = |event| Envelope {
            seq: Seq::new(17),
            boot: BootId::from_random(1),
            at: Timestamp::new("2026-11-22T13:05:01Z".parse().expect("valid")),
            elapsed: Uptime::default(),
            server: Some(server("a")),
            incarnation: None,
            cause: None,
            event,
        };
        let failed = Event::ServerFailed {
            reason: FailureReason::Crashed,
            detail: "signal \u{1b}SEGV".to_owned(),
            lines: vec!["bye".to_owned()],
        };
        assert_eq!(
            sentence(&envelope(failed)),
            Sentence {
                level: Level::ERROR,
                text: "server failed reason=crashed detail=\"signal \\u{1b}SEGV\" last_line=\"bye\"".to_owned()
            }
        );
        let estimate = MemoryEstimate { weights_bytes: 4, kv_bytes: 3, compute_bytes: 2, gpu_bytes: 1 };
        assert_eq!(
            sentence(&envelope(Event::MemoryEstimated { estimate })).text,
            "memory estimated weights_bytes=4 kv_bytes=3 compute_bytes=2 gpu_bytes=1"
        );
        assert_eq!(sentence(&envelope(Event::ServerRemoved)).text, "server removed from the configuration");
    }
}
