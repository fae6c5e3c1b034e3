//! The sentence of the log about an event, as a value.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use llama_warden_events::Envelope;
use llama_warden_support::lock;
use tracing::dispatcher::with_default;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber};

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
    EVERYTHING
        .with(|listener| listener.hear(envelope))
        // Each event is one line.
        .unwrap_or_else(|| Sentence { level: Level::DEBUG, text: envelope.event.kind().to_owned() })
}

/// What the log says about an event of level info or above; `None` for one that is less.
pub(crate) fn notable_sentence(envelope: &Envelope) -> Option<Sentence> {
    NOTABLE.with(|listener| listener.hear(envelope))
}

thread_local! {
    // They stay: for each new dispatcher, `tracing` looks again at every log line of the program.
    static EVERYTHING: Listener = Listener::new(Level::DEBUG);
    static NOTABLE: Listener = Listener::new(Level::INFO);
}

/// Hears what the log says of events.
struct Listener {
    dispatch: Dispatch,
    heard: Heard,
}

/// The latest line that was heard.
type Heard = Arc<Mutex<Option<Sentence>>>;

impl Listener {
    fn new(least: Level) -> Self {
        let heard = Heard::default();
        Self { dispatch: Dispatch::new(Hearing { least, heard: heard.clone() }), heard }
    }

    fn hear(&self, envelope: &Envelope) -> Option<Sentence> {
        with_default(&self.dispatch, || line::log(envelope));
        lock(&self.heard).take()
    }
}

struct Hearing {
    least: Level,
    heard: Heard,
}

impl Subscriber for Hearing {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Others are never asked about: this subscriber is a default only while an event is logged.
        if self.enabled(metadata) { Interest::sometimes() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == line::TARGET && *metadata.level() <= self.least
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.least.into())
    }

    fn event(&self, event: &Event<'_>) {
        *lock(&self.heard) = Some(Sentence { level: *event.metadata().level(), text: Words::of(event).text() });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Fields that are told otherwise, or of no use to a person.
const UNSAID: [&str; 3] = ["seq", "event", "incarnation"];

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
        if !UNSAID.contains(&field.name()) {
            self.add(field.name(), &escaped(value));
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), if value { "yes" } else { "no" });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if !UNSAID.contains(&field.name()) {
            self.add(field.name(), &escaped(&format!("{value:?}")));
        }
    }
}

/// One line, and no control character of others.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    let escape = |letter: char| {
        let escaped = letter.is_control().then(|| letter.escape_default());
        escaped.is_none().then_some(letter).into_iter().chain(escaped.into_iter().flatten())
    };
    text.chars().flat_map(escape).collect()
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
