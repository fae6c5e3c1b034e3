//! The server's log: adds the prefix of the build to each line, and writes one line at a time.

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

/// The stream of a line, and its severity, of which b11669 prints the first letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineKind {
    /// Standard output, as builds before late 2024 use it; the text contains the severity.
    Out,
    Info,
    Warn,
    Error,
}

impl LineKind {
    fn level(self) -> &'static str {
        match self {
            Self::Out | Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// The log, shared by all threads. As in llama-server, every thread that logs waits while the pipe is full.
#[derive(Debug)]
pub(crate) struct ServerLog {
    started: Instant,
    settings: ServerLogSettings,
    muted: bool,
    /// The copy for `--log-file`. The lock also keeps lines of different threads apart.
    file: Mutex<Option<File>>,
}

impl ServerLog {
    pub(crate) fn open(settings: ServerLogSettings, silent: bool) -> Self {
        // llama-server continues without a log file that it cannot open.
        let file = settings.file.as_ref().and_then(|path| File::create(path).ok());
        let muted = silent || settings.disabled;
        Self { started: Instant::now(), settings, muted, file: Mutex::new(file) }
    }

    /// Writes the line `text` in the encoding `style`.
    pub(crate) fn line(&self, kind: LineKind, text: &str, style: LineStyle) {
        if self.muted {
            return;
        }
        // The lock is held until the whole line is written, as the builds do.
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = file.as_mut() {
            // An error in the copy is ignored, as in llama-server.
            let _ = writeln!(file, "{}", self.pieces(kind, text, style).concat());
        }
        if self.settings.json_lines {
            return output::write(Stream::Stdout, self.json(kind, text));
        }
        let (before, after): (&[u8], &[u8]) = match style {
            LineStyle::Plain | LineStyle::Bytes | LineStyle::Ansi => (b"", b"\n"),
            LineStyle::CarriageReturn => (b"", b"\r\n"),
            LineStyle::Nul => (b"\0\0\0\n", b"\0\n"),
            LineStyle::NotUtf8 => (b"\xff\xfe broken \xc3\n", b"\n"),
        };
        let mut pieces: Vec<Vec<u8>> = self.pieces(kind, text, style).into_iter().map(String::into_bytes).collect();
        pieces.insert(0, before.to_vec());
        if let Some(last) = pieces.last_mut() {
            last.extend(after);
        }
        let stream = if kind == LineKind::Out { Stream::Stdout } else { Stream::Stderr };
        for piece in pieces {
            match style {
                LineStyle::Bytes => piece.chunks(1).for_each(|byte| output::write(stream, byte)),
                _ => output::write(stream, &piece),
            }
        }
    }

    /// Writes text that is not a whole line, such as the dots of a load, to stderr.
    pub(crate) fn fragment(&self, text: &str) {
        if !self.muted {
            let _turn = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            output::write(Stream::Stderr, text);
        }
    }

    /// The parts for which the build calls `write` one by one: timestamp, level, text.
    fn pieces(&self, kind: LineKind, text: &str, style: LineStyle) -> Vec<String> {
        if self.settings.bare {
            return vec![text.to_owned()];
        }
        let stamp = stamp(self.started.elapsed());
        let letter = &kind.level()[..1].to_uppercase();
        if self.settings.colors || style == LineStyle::Ansi {
            vec![format!("\x1b[34m{stamp}\x1b[0m "), format!("\x1b[32m{letter} \x1b[0m"), text.to_owned()]
        } else {
            vec![format!("{stamp} "), format!("{letter} "), text.to_owned()]
        }
    }

    fn json(&self, kind: LineKind, text: &str) -> String {
        let level = kind.level();
        let micros = self.started.elapsed().as_micros() as u64;
        let msg = format!("{text}\n");
        format!("{}\n", serde_json::json!({ "type": "log", "time": micros, "level": level, "msg": msg }))
    }
}

/// The time since the start as `M.SS.mmm.uuu`.
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
