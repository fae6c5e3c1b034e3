//! What the log says about an event, as a value.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use llama_warden_events::Envelope;
use llama_warden_support::lock;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::with_default;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::line;

/// A log line for people: without its time, and without what the envelope says by itself: number, server and launch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// How much it matters.
    pub level: Level,
    /// The text, and its values in words.
    pub text: String,
}

/// What the log says about an event.
pub fn sentence(envelope: &Envelope) -> Sentence {
    let said = Listener::default();
    with_default(said.clone(), || line::log(envelope));
    // Each event is one line.
    lock(&said.0).take().unwrap_or_else(|| Sentence { level: Level::DEBUG, text: envelope.event.kind().to_owned() })
}

/// What the log says about an event of level info or above; `None` for one that is less.
pub(crate) fn notable_sentence(envelope: &Envelope) -> Option<Sentence> {
    Some(sentence(envelope)).filter(|sentence| sentence.level <= Level::INFO)
}

/// Keeps the latest line.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Option<Sentence>>>);

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        *lock(&self.0) = Some(Sentence { level: *event.metadata().level(), text: Words::of(event).text() });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The words of one log line.
#[derive(Debug, Default)]
pub(crate) struct Words {
    message: String,
    /// Values that say by themselves what they are.
    plain: Vec<String>,
    /// Values behind their names.
    named: Vec<String>,
    /// The server that it is about.
    pub(crate) server: Option<String>,
}

impl Words {
    pub(crate) fn of(event: &Event<'_>) -> Self {
        let mut words = Self::default();
        event.record(&mut words);
        words
    }

    /// `server failed: crashed, the detail, last line: bye`
    pub(crate) fn text(self) -> String {
        let values = [self.plain, self.named].concat().join(", ");
        if values.is_empty() { self.message } else { format!("{}: {values}", self.message) }
    }

    fn add(&mut self, name: &str, value: &str) {
        match name {
            "message" => self.message = value.to_owned(),
            "server" => self.server = Some(value.to_owned()),
            // Told otherwise, or of no use to a person.
            "seq" | "event" | "incarnation" => {}
            "reason" | "detail" | "because" | "error" | "outcome" | "why" | "address" | "url" | "trigger"
            | "warning" | "listener" | "hook" => self.plain.push(value.to_owned()),
            // As the cause of something it is a number.
            "command" if value.parse::<u64>().is_err() => self.plain.push(value.to_owned()),
            "seconds" => self.named.push(format!("{value} s")),
            name => match name.strip_suffix("_seconds") {
                Some(name) => self.named.push(format!("{} {value} s", name.replace('_', " "))),
                None => self.named.push(format!("{} {value}", name.replace('_', " "))),
            },
        }
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), &escaped(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), if value { "yes" } else { "no" });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field.name(), &escaped(&format!("{value:?}")));
    }
}

/// One line, and no control character of others.
fn escaped(text: &str) -> String {
    let escape =
        |letter: char| if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use llama_warden_component_kit::server;
    use llama_warden_events::{
        BootId, CommandOutcome, CommandSummary, Event, FailureReason, MemoryEstimate, ReadyVia, Seq, SwitchPlan,
        Timestamp, Uptime,
    };

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
                text: "server failed: crashed, signal \\u{1b}SEGV, last line bye".to_owned()
            }
        );
        let estimate = MemoryEstimate { weights_bytes: 4, kv_bytes: 3, compute_bytes: 2, gpu_bytes: 1 };
        assert_eq!(
            sentence(&envelope(Event::MemoryEstimated { estimate })).text,
            "memory estimated: weights bytes 4, kv bytes 3, compute bytes 2, gpu bytes 1"
        );
        assert_eq!(sentence(&envelope(Event::ServerRemoved)).text, "server removed from the configuration");
        let accepted = |command| sentence(&envelope(Event::CommandAccepted { command, trace: None })).text;
        assert_eq!(accepted(CommandSummary::Stop { force: false }), "command accepted: stop");
        assert_eq!(accepted(CommandSummary::Restart { force: true }), "command accepted: restart by KILL");
        let outcome = CommandOutcome::Failed { reason: FailureReason::Crashed, detail: "gone".to_owned() };
        assert_eq!(
            sentence(&envelope(Event::CommandCompleted { outcome })).text,
            "command completed: failed: crashed: gone"
        );
        let plan = SwitchPlan { stop: vec![server("a"), server("b")], ..SwitchPlan::default() };
        assert_eq!(sentence(&envelope(Event::SwitchPlanned { plan: plan.into() })).text, "switch planned: stop a, b");
        let ready = Event::ReadyReached { via: ReadyVia::Stderr, startup_seconds: 4.5 };
        assert_eq!(sentence(&envelope(ready)).text, "server is ready: via stderr, startup 4.5 s");
    }

    #[test]
    fn who_hears_events_changes_nothing_for_the_log() {
        let recorded = llama_warden_component_kit::RecordedLog::default();
        let _subscriber = tracing::subscriber::set_default(recorded.subscriber());
        let envelope = |event| Envelope {
            seq: Seq::new(1),
            boot: BootId::from_random(1),
            at: Timestamp::from_unix_microseconds(0),
            elapsed: Uptime::default(),
            server: Some(server("a")),
            incarnation: None,
            cause: None,
            event,
        };
        let (removed, guardian) = (envelope(Event::ServerRemoved), envelope(Event::GuardianStarted { pid: 1 }));
        assert_eq!(notable_sentence(&removed), Some(sentence(&removed)));
        assert_eq!((notable_sentence(&guardian), sentence(&guardian).level), (None, Level::DEBUG));
        tracing::info!("heard by the log alone");
        line::log(&removed);
        assert_eq!(recorded.take().len(), 2);
    }
}
