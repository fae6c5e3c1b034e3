//! Sets up the log: on standard error, in the journal, or wherever its starter wants it.
//!
//! Where standard error is the journal, lines for people become entries with fields; without journald's socket, they are lines that
//! begin with their priority, as in `<4>`.
//!
//! Lines go through a [`LineQueue`], so a stopped terminal, a pipe that is not read or a full disk never blocks the daemon:
//! it loses lines, and counts them.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use tracing::field::Field;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{FormatFields, Writer, debug_fn};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt};

use crate::journal::{JournalLayer, JournalSocket, is_journal, priority};
use crate::queue::LineQueue;
use crate::sentence::Words;

/// How long the end of the daemon waits for its last lines.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The level and the format of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggingSettings {
    /// Lines of this level and above are written.
    pub level: LevelFilter,
    /// How a line looks.
    pub format: LogFormat,
    /// Whether it is coloured.
    pub colour: Colour,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Whether lines for people are coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// With terminal colours.
    On,
    /// Without terminal colours.
    Off,
}

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A variable has a value that it does not take.
    #[error("{variable}=`{value}` is none of {}", takes.join(", "))]
    Value {
        /// Its name.
        variable: &'static str,
        /// Its value.
        value: String,
        /// The values that it takes; the first one is the default.
        takes: &'static [&'static str],
    },
    /// The writer's thread could not be started.
    #[error("cannot start the log writer")]
    Writer(#[source] io::Error),
    /// This process logs already.
    #[error("the log is set up twice")]
    Twice(#[source] tracing::subscriber::SetGlobalDefaultError),
}

impl LoggingSettings {
    /// Reads `LLAMA_WARDEN_LOG`, `LLAMA_WARDEN_LOG_FORMAT` and `NO_COLOR`; colours are for terminals only.
    pub fn from_env() -> Result<Self, LogError> {
        let colour = if io::stderr().is_terminal() { Colour::On } else { Colour::Off };
        Self::from_lookup(|name| std::env::var(name).ok(), colour)
    }

    fn from_lookup(variable: impl Fn(&str) -> Option<String>, colour: Colour) -> Result<Self, LogError> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let format = one_of("LLAMA_WARDEN_LOG_FORMAT", variable, &["human", "json"])?;
        let level = one_of("LLAMA_WARDEN_LOG", variable, &["info", "error", "warn", "debug"])?;
        let colour = if variable("NO_COLOR").is_some() { Colour::Off } else { colour };
        Ok(Self {
            level: [LevelFilter::INFO, LevelFilter::ERROR, LevelFilter::WARN, LevelFilter::DEBUG][level],
            format: [LogFormat::Human, LogFormat::Json][format],
            colour,
        })
    }
}

/// The index of a variable's value among those that it takes, 0 where it is not set.
fn one_of(
    name: &'static str,
    variable: impl Fn(&'static str) -> Option<String>,
    takes: &'static [&'static str],
) -> Result<usize, LogError> {
    let Some(value) = variable(name) else { return Ok(0) };
    let index = takes.iter().position(|taken| taken.eq_ignore_ascii_case(&value));
    index.ok_or(LogError::Value { variable: name, value, takes })
}

/// Keeps the log going; when it is dropped, the last lines are written.
#[derive(Debug)]
#[must_use = "the last lines are lost when the guard is dropped early"]
pub struct LogGuard {
    queue: LineQueue,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.queue.close(LAST_LINES);
    }
}

/// Makes this process log to standard error from now on, or to the journal where that is standard error.
pub fn start_logging(settings: &LoggingSettings) -> Result<LogGuard, LogError> {
    let variable = std::env::var_os("JOURNAL_STREAM");
    let is_journal = settings.format == LogFormat::Human && is_journal(io::stderr(), variable.as_deref());
    match JournalSocket::open() {
        Ok(socket) if is_journal => begin(settings, LogSink::Journal, socket),
        _ => {
            // A descriptor of our own: the writer may be stuck in a write for ever, and must not hold the lock of
            // `std::io::stderr` then, which a panic message needs.
            let stderr = io::stderr().as_fd().try_clone_to_owned().map_err(LogError::Writer)?;
            begin(settings, if is_journal { LogSink::PriorityLines } else { LogSink::Lines }, File::from(stderr))
        }
    }
}

/// Makes this process log to `output` from now on, which is shown above a table: a sentence a line.
pub fn start_logging_to(settings: &LoggingSettings, output: impl Write + Send + 'static) -> Result<LogGuard, LogError> {
    begin(settings, LogSink::Sentences, output)
}

fn begin(settings: &LoggingSettings, sink: LogSink, output: impl Write + Send + 'static) -> Result<LogGuard, LogError> {
    let report = |lost| tracing::warn!(lost, "log lines were lost: nobody took them");
    let queue = LineQueue::start(output, report).map_err(LogError::Writer)?;
    // Not `try_init`, which would also log what libraries tell the `log` crate: of those here, only file watches that are gone.
    tracing::subscriber::set_global_default(subscriber(settings, sink, queue.clone())).map_err(LogError::Twice)?;
    Ok(LogGuard { queue })
}

/// What the log is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LogSink {
    Lines,
    /// Sentences above the table of a person.
    Sentences,
    /// Lines that the journal reads from standard error: each begins with its priority.
    PriorityLines,
    Journal,
}

fn subscriber(settings: &LoggingSettings, sink: LogSink, queue: LineQueue) -> impl Subscriber + Send + Sync {
    let lines = fmt::layer();
    let layer = match (sink, settings.format) {
        (LogSink::Journal, _) => JournalLayer::new(queue).boxed(),
        (_, LogFormat::Json) => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .with_writer(move || queue.clone())
            .boxed(),
        (_, LogFormat::Human) => {
            let lines =
                lines.with_ansi(settings.colour == Colour::On).with_target(false).fmt_fields(debug_fn(human_field));
            let lines = lines.with_writer(move || queue.clone());
            match sink {
                LogSink::PriorityLines => lines.map_event_format(WithPriority).boxed(),
                LogSink::Sentences => lines.event_format(Sentences).boxed(),
                LogSink::Lines | LogSink::Journal => lines.boxed(),
            }
        }
    };
    tracing_subscriber::registry().with(settings.level).with(layer)
}

/// Writes a field for people. The type of an event is what the text says in words.
fn human_field(writer: &mut Writer<'_>, field: &Field, value: &dyn Debug) -> std::fmt::Result {
    match field.name() {
        "message" => write!(writer, "{value:?}"),
        "event" => Ok(()),
        name if writer.has_ansi_escapes() => write!(writer, " \x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value:?}"),
        name => write!(writer, " {name}={value:?}"),
    }
}

/// Formats an event as `F` does, behind its priority, as sd-daemon(3) describes.
struct WithPriority<F>(F);

impl<S, N, F> FormatEvent<S, N> for WithPriority<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

/// Formats an event as a person reads it, with the time of the day: `13:05:01 WARN qwen3: hook failed: exit code 3`.
struct Sentences;

impl<S, N> FormatEvent<S, N> for Sentences
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> std::fmt::Result {
        let mut now = String::new();
        SystemTime.format_time(&mut Writer::new(&mut now))?;
        let level = *event.metadata().level();
        let (begin, end) = match level {
            Level::ERROR if writer.has_ansi_escapes() => ("\x1b[31m", "\x1b[0m"),
            Level::WARN if writer.has_ansi_escapes() => ("\x1b[33m", "\x1b[0m"),
            _ => ("", ""),
        };
        write!(writer, "{} {begin}{level}{end} ", now.get(11..19).unwrap_or(&now))?;
        let mut words = Words::of(event);
        if let Some(server) = words.server.take() {
            write!(writer, "{server}: ")?;
        }
        writeln!(writer, "{}", words.text())
    }
}

/// The log gives each formatted event in one piece.
impl Write for LineQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<LoggingSettings, LogError> {
        let lookup =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        LoggingSettings::from_lookup(lookup, Colour::On)
    }

    /// What one event looks like.
    fn logged(settings: &LoggingSettings, event: impl FnOnce()) -> String {
        logged_to(settings, LogSink::Lines, event)
    }

    fn logged_to(settings: &LoggingSettings, sink: LogSink, event: impl FnOnce()) -> String {
        let (mut near, far) = UnixStream::pair().expect("makes a pair");
        let queue = LineQueue::start(far, |_| {}).expect("starts");
        tracing::subscriber::with_default(subscriber(settings, sink, queue.clone()), event);
        queue.close(LAST_LINES * 20);
        drop(queue);
        let mut text = String::new();
        io::Read::read_to_string(&mut near, &mut text).expect("is text");
        text
    }

    #[test]
    fn the_environment_decides_what_is_logged_and_how() {
        let default = settings(&[]).expect("valid");
        let human = LoggingSettings { level: LevelFilter::INFO, format: LogFormat::Human, colour: Colour::On };
        assert_eq!(default, human);
        let variables = [("LLAMA_WARDEN_LOG", "debug"), ("LLAMA_WARDEN_LOG_FORMAT", "json"), ("NO_COLOR", "1")];
        let json = LoggingSettings { level: LevelFilter::DEBUG, format: LogFormat::Json, colour: Colour::Off };
        assert_eq!(settings(&variables).expect("valid"), json);
        assert_eq!(settings(&[("NO_COLOR", "")]).expect("valid").colour, Colour::On);
    }

    #[test]
    fn a_value_that_is_no_level_or_format_is_refused_with_its_variable_and_the_values_that_exist() {
        for level in ["warning", "verbose", "true", "warn,llama_warden::fact=debug"] {
            let error = settings(&[("LLAMA_WARDEN_LOG", level)]).expect_err("refused").to_string();
            assert_eq!(error, format!("LLAMA_WARDEN_LOG=`{level}` is none of info, error, warn, debug"));
        }
        let error = settings(&[("LLAMA_WARDEN_LOG_FORMAT", "xml")]).expect_err("refused").to_string();
        assert_eq!(error, "LLAMA_WARDEN_LOG_FORMAT=`xml` is none of human, json");
        assert_eq!(settings(&[("LLAMA_WARDEN_LOG", "WARN")]).expect("valid").level, LevelFilter::WARN);
    }

    #[test]
    fn a_json_line_is_one_flat_object() {
        let settings = settings(&[("LLAMA_WARDEN_LOG_FORMAT", "json")]).expect("valid");
        let text = logged(&settings, || tracing::info!(server = "a", seq = 7, "server is ready"));
        let line: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
        assert_eq!((&line["level"], &line["server"], &line["seq"]), (&"INFO".into(), &"a".into(), &7.into()));
        assert_eq!(line["message"], "server is ready");
    }

    #[test]
    fn a_plain_line_has_no_colour_and_no_control_character() {
        let settings = settings(&[("NO_COLOR", "1")]).expect("valid");
        let text = logged(&settings, || tracing::warn!(detail = "evil \u{1b}[31m\nline", "warned"));
        assert!(text.contains("WARN") && text.contains("warned"), "{text:?}");
        assert!(text.ends_with('\n') && !text.trim_end().contains(['\u{1b}', '\n']), "{text:?}");
    }

    #[test]
    fn a_line_for_the_journal_begins_with_its_priority() {
        let settings = settings(&[("NO_COLOR", "1")]).expect("valid");
        let text = logged_to(&settings, LogSink::PriorityLines, || tracing::warn!("warned"));
        assert!(text.starts_with("<4>") && text.ends_with("warned\n"), "{text:?}");
    }

    #[test]
    fn above_a_table_a_line_is_a_sentence() {
        let settings = settings(&[("NO_COLOR", "1")]).expect("valid");
        let event = || {
            tracing::warn!(
                event = "HookCompleted",
                server = "a",
                detail = "exit code 3\u{1b}",
                seconds = 0.5,
                "hook failed"
            )
        };
        let text = logged_to(&settings, LogSink::Sentences, event);
        assert_eq!(text.get(8..), Some(" WARN a: hook failed: exit code 3\\u{1b}, 0.5 s\n"), "{text:?}");
    }

    #[test]
    fn people_read_the_text_and_its_values_and_programs_the_type_of_the_event() {
        let event = || tracing::info!(event = "ReadyReached", server = "a", "server is ready");
        let human = logged(&settings(&[("NO_COLOR", "1")]).expect("valid"), event);
        assert!(human.ends_with("INFO server is ready server=\"a\"\n"), "{human:?}");
        let json = logged(&settings(&[("LLAMA_WARDEN_LOG_FORMAT", "json")]).expect("valid"), event);
        assert!(json.contains(r#""event":"ReadyReached""#), "{json}");
    }

    #[test]
    fn what_the_filter_excludes_is_not_written() {
        let text = logged(&settings(&[]).expect("valid"), || tracing::debug!("detail"));
        assert_eq!(text, "");
    }
}
