//! The server's log: lines with the marks of their build, one at a time.

use std::{
    fs::File,
    io::Write,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    output::{self, Stream},
    script::LineStyle,
    settings::ServerLogSettings,
};

/// How grave a line is; b11669 prints the letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Info,
    Warn,
    Error,
}

/// A line of the server, without the marks that only some settings add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerLogLine {
    pub(crate) stream: Stream,
    pub(crate) level: Level,
    pub(crate) text: String,
}

impl ServerLogLine {
    pub(crate) fn info(text: impl Into<String>) -> Self {
        Self { stream: Stream::Stderr, level: Level::Info, text: text.into() }
    }

    pub(crate) fn warn(text: impl Into<String>) -> Self {
        Self { level: Level::Warn, ..Self::info(text) }
    }

    pub(crate) fn error(text: impl Into<String>) -> Self {
        Self { level: Level::Error, ..Self::info(text) }
    }

    pub(crate) fn on_stdout(self) -> Self {
        Self { stream: Stream::Stdout, ..self }
    }
}

/// Writes lines in turn. While the pipe is full, everybody who logs waits, as in llama-server.
#[derive(Debug)]
pub(crate) struct ServerLog {
    started: Instant,
    settings: ServerLogSettings,
    muted: bool,
    /// Also the turn: whoever writes holds it.
    file: Mutex<Option<File>>,
}

impl ServerLog {
    pub(crate) fn open(settings: ServerLogSettings, silent: bool) -> Self {
        // The real build goes on without a file that it cannot open.
        let file = settings.file.as_ref().and_then(|path| File::create(path).ok());
        let muted = silent || settings.disabled;
        Self { started: Instant::now(), settings, muted, file: Mutex::new(file) }
    }

    pub(crate) fn lines(&self, lines: impl IntoIterator<Item = ServerLogLine>) {
        lines.into_iter().for_each(|line| self.line(&line));
    }

    pub(crate) fn line(&self, line: &ServerLogLine) {
        self.styled(line, LineStyle::Plain);
    }

    /// Writes `line` in another style than its build's.
    pub(crate) fn styled(&self, line: &ServerLogLine, style: LineStyle) {
        if self.muted {
            return;
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = file.as_mut() {
            // The file is a copy; stderr says the same.
            let _ = writeln!(file, "{}", self.pieces(line, style).concat());
        }
        if self.settings.json_lines {
            return output::write_text(Stream::Stdout, &self.json(line));
        }
        let (before, after): (&[u8], &[u8]) = match style {
            LineStyle::Plain | LineStyle::Bytes | LineStyle::Ansi => (b"", b"\n"),
            LineStyle::CarriageReturn => (b"", b"\r\n"),
            LineStyle::Nul => (b"\0\0\0\n", b"\0\n"),
            LineStyle::NotUtf8 => (b"\xff\xfe broken \xc3\n", b"\n"),
        };
        let mut pieces: Vec<Vec<u8>> = self.pieces(line, style).into_iter().map(String::into_bytes).collect();
        pieces.insert(0, before.to_vec());
        if let Some(last) = pieces.last_mut() {
            last.extend(after);
        }
        for piece in pieces {
            match style {
                LineStyle::Bytes => piece.chunks(1).for_each(|byte| output::write_bytes(line.stream, byte)),
                _ => output::write_bytes(line.stream, &piece),
            }
        }
    }

    /// Writes text that is not a whole line, such as the dots of a load.
    pub(crate) fn fragment(&self, text: &str) {
        if !self.muted {
            let _turn = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            output::write_text(Stream::Stderr, text);
        }
    }

    /// The parts that the build writes one by one: timestamp, level, text.
    fn pieces(&self, line: &ServerLogLine, style: LineStyle) -> Vec<String> {
        if self.settings.bare {
            return vec![line.text.clone()];
        }
        let stamp = stamp(self.started.elapsed());
        let letter = match line.level {
            Level::Info => 'I',
            Level::Warn => 'W',
            Level::Error => 'E',
        };
        if self.settings.colors || style == LineStyle::Ansi {
            vec![format!("\x1b[34m{stamp}\x1b[0m "), format!("\x1b[32m{letter} \x1b[0m"), line.text.clone()]
        } else {
            vec![format!("{stamp} "), format!("{letter} "), line.text.clone()]
        }
    }

    fn json(&self, line: &ServerLogLine) -> String {
        let level = match line.level {
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        };
        let micros = self.started.elapsed().as_micros() as u64;
        let msg = format!("{}\n", line.text);
        format!("{}\n", serde_json::json!({ "type": "log", "time": micros, "level": level, "msg": msg }))
    }
}

/// `M.SS.mmm.uuu` since the start.
fn stamp(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    let micros = elapsed.subsec_micros();
    format!("{}.{:02}.{:03}.{:03}", seconds / 60, seconds % 60, micros / 1000, micros % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_counts_minutes_seconds_milli_and_microseconds() {
        assert_eq!(stamp(Duration::from_micros(4_480)), "0.00.004.480");
        assert_eq!(stamp(Duration::from_micros(61_002_003)), "1.01.002.003");
    }
}
