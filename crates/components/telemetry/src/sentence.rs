//! What the log says about an event, as a value.

use std::cell::Cell;
use std::fmt::{Arguments, Debug, Write as _};
use std::sync::LazyLock;

use llama_warden_events::Envelope;
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
    static ALL: CapturingDispatch = CapturingDispatch::new(|| capturing_dispatch(LevelFilter::DEBUG));
    // Each event is one line.
    captured(&ALL, envelope).unwrap_or_else(|| Sentence { level: Level::DEBUG, text: envelope.event.kind().to_owned() })
}

/// What the log says about an event of level info or above; `None` for one that is less.
pub(crate) fn notable_sentence(envelope: &Envelope) -> Option<Sentence> {
    static NOTABLE: CapturingDispatch = CapturingDispatch::new(|| capturing_dispatch(LevelFilter::INFO));
    captured(&NOTABLE, envelope)
}

/// Subscribers that stay: each new one makes `tracing` ask all of them about every place that logs. They are two, since `tracing` takes
/// what a thread without a subscriber wants for what the only one wants.
type CapturingDispatch = LazyLock<[Dispatch; 2]>;

fn capturing_dispatch(level: LevelFilter) -> [Dispatch; 2] {
    [level; 2].map(|level| Dispatch::new(SentenceSubscriber(level)))
}

thread_local! {
    /// The line that was logged last on this thread.
    static CAPTURED: Cell<Option<Sentence>> = const { Cell::new(None) };
}

fn captured([dispatch, _]: &[Dispatch; 2], envelope: &Envelope) -> Option<Sentence> {
    with_default(dispatch, || line::log_event(envelope));
    CAPTURED.take()
}

/// Keeps the latest line of this level or above. Without a level, every place that logs less would be asked about each time.
struct SentenceSubscriber(LevelFilter);

impl Subscriber for SentenceSubscriber {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.0)
    }

    fn event(&self, event: &Event<'_>) {
        CAPTURED.set(Some(Sentence { level: *event.metadata().level(), text: Words::of(event).text() }));
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
    plain: String,
    /// Values behind their names.
    named: String,
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
        let mut text = self.message;
        let values = [self.plain, self.named];
        for (value, before) in values.iter().filter(|values| !values.is_empty()).zip([": ", ", "]) {
            text.push_str(before);
            text.push_str(value);
        }
        text
    }

    fn add(&mut self, field: &Field, value: Arguments<'_>) {
        match field.name() {
            "message" => escape(&mut self.message, value),
            "server" => escape(self.server.insert(String::new()), value),
            // Told otherwise, or of no use to a person.
            "seq" | "event" | "incarnation" => {}
            "reason" | "detail" | "because" | "error" | "outcome" | "why" | "address" | "url" | "trigger"
            | "warning" | "listener" | "hook" => escape(next_of(&mut self.plain), value),
            // As the cause of something it is a number.
            "command" if value.to_string().parse::<u64>().is_err() => escape(next_of(&mut self.plain), value),
            "seconds" => escape(next_of(&mut self.named), format_args!("{value} s")),
            name => {
                let (name, unit) = name.strip_suffix("_seconds").map_or((name, ""), |name| (name, " s"));
                let named = next_of(&mut self.named);
                named.extend(name.chars().map(|letter| if letter == '_' { ' ' } else { letter }));
                escape(named, format_args!(" {value}{unit}"));
            }
        }
    }
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, format_args!("{}", if value { "yes" } else { "no" }));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

/// The list, ready for its next value.
fn next_of(list: &mut String) -> &mut String {
    if !list.is_empty() {
        list.push_str(", ");
    }
    list
}

/// Appends a value as one line, with its control characters escaped.
fn escape(text: &mut String, value: Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = Escaped(text).write_fmt(value);
}

struct Escaped<'a>(&'a mut String);

impl std::fmt::Write for Escaped<'_> {
    fn write_str(&mut self, piece: &str) -> std::fmt::Result {
        if piece.contains(char::is_control) {
            for letter in piece.chars() {
                if letter.is_control() { self.0.extend(letter.escape_default()) } else { self.0.push(letter) }
            }
        } else {
            self.0.push_str(piece);
        }
        Ok(())
    }
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
        line::log_event(&removed);
        assert_eq!(recorded.take().len(), 2);
    }
}
