//! Sets up the log, on standard error or wherever its starter wants it.
//!
//! Lines go through a [`LineQueue`], so a stopped terminal, a pipe that is not read or a full disk never blocks the daemon:
//! it loses lines, and counts them.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, fmt};

use crate::queue::LineQueue;

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

/// Standard error as the output of a log. A descriptor of its own: the writer may be stuck in a write for ever, and must not
/// hold the lock of `std::io::stderr` then, which a panic message needs.
pub fn standard_error() -> io::Result<File> {
    io::stderr().as_fd().try_clone_to_owned().map(File::from)
}

/// Makes this process log to `output` from now on.
pub fn start_logging(settings: &LoggingSettings, output: impl Write + Send + 'static) -> Result<LogGuard, LogError> {
    let report = |lost| tracing::warn!(lost, "log lines were lost: nobody took them");
    let queue = LineQueue::start(output, report).map_err(LogError::Writer)?;
    // Not `try_init`, which would also log what libraries tell the `log` crate: of those here, only file watches that are gone.
    tracing::subscriber::set_global_default(subscriber(settings, queue.clone())).map_err(LogError::Twice)?;
    Ok(LogGuard { queue })
}

fn subscriber(settings: &LoggingSettings, queue: LineQueue) -> impl Subscriber + Send + Sync {
    let lines = fmt::layer().with_writer(move || queue.clone());
    let lines = match settings.format {
        LogFormat::Human => lines.with_ansi(settings.colour == Colour::On).with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    };
    tracing_subscriber::registry().with(settings.level).with(lines)
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
        let (mut near, far) = UnixStream::pair().expect("makes a pair");
        let queue = LineQueue::start(far, |_| {}).expect("starts");
        tracing::subscriber::with_default(subscriber(settings, queue.clone()), event);
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
    fn what_the_filter_excludes_is_not_written() {
        let text = logged(&settings(&[]).expect("valid"), || tracing::debug!("detail"));
        assert_eq!(text, "");
    }
}
