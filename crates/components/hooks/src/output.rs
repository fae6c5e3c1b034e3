//! The output of a command: its first lines in the log, bounded in number and length, and its last lines for the event.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use llama_warden_events::StreamName;
use llama_warden_support::{LineSplitter, Redactor, head_and_tail};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::call::HookCall;

/// Most lines of a stream that are logged. Further ones are read and dropped: a full pipe would block the command.
const LINES: usize = 100;
/// Most bytes of a line that are logged.
const LINE_BYTES: usize = 1024;
/// How many last lines of a stream are kept.
const LAST_LINES: usize = 10;

/// The last lines of a stream that are not blank, oldest first.
pub(crate) type LastLines = VecDeque<String>;

/// Reads a stream to its end, logs its first lines and keeps its last ones, without secrets.
pub(crate) async fn log_lines(
    call: &HookCall,
    redactor: &Redactor,
    stream: StreamName,
    pipe: OwnedFd,
    last_lines: &mut LastLines,
) -> io::Result<()> {
    let mut pipe = Receiver::from_owned_fd(pipe)?;
    let mut lines = HookLines::default();
    let mut chunk = [0; 4096];
    loop {
        let read = pipe.read(&mut chunk).await?;
        lines.push(&chunk[..read], read == 0, redactor, |line, is_logged| {
            if is_logged {
                tracing::info!(server = %call.server, hook = %call.hook, %stream, line, "hook says");
            }
            if last_lines.len() == LAST_LINES {
                last_lines.pop_front();
            }
            last_lines.push_back(line.to_owned());
        });
        if read == 0 {
            return Ok(());
        }
    }
}

#[derive(Debug, Default)]
struct HookLines {
    splitter: LineSplitter,
    count: usize,
}

impl HookLines {
    /// Calls `on_line` with each line that is not blank, and whether it is to be logged.
    fn push(&mut self, bytes: &[u8], is_end: bool, redactor: &Redactor, mut on_line: impl FnMut(&str, bool)) {
        let mut pass = |line: &[u8]| {
            let line = redactor.redact(line);
            let line = head_and_tail(&line, LINE_BYTES);
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end();
            if !line.is_empty() {
                on_line(line, self.count < LINES);
                self.count = self.count.saturating_add(1);
            }
        };
        self.splitter.feed(bytes, &mut pass);
        if is_end {
            self.splitter.finish(pass);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that are logged, and the number of the others.
    fn count(chunks: &[&[u8]]) -> (Vec<String>, usize) {
        let (mut lines, mut count) = (HookLines::default(), (Vec::new(), 0));
        for (index, chunk) in chunks.iter().enumerate() {
            lines.push(
                chunk,
                index + 1 == chunks.len(),
                &Redactor::new(["sk-12345"]),
                |line, is_logged| match is_logged {
                    true => count.0.push(line.to_owned()),
                    false => count.1 += 1,
                },
            );
        }
        count
    }

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        count(chunks).0
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(lines(&[b"on", b"e\r\ntwo\n\n", b"three"]), ["one", "two", "three"]);
        assert_eq!(lines(&[b"\xff\n"]), ["\u{fffd}"]);
    }

    #[test]
    fn a_progress_bar_is_its_last_step_and_a_secret_is_replaced() {
        assert_eq!(lines(&[b"10 %\r20 %\r", b"30 %\rfailed with sk-12345\n"]), ["failed with [redacted]"]);
    }

    #[test]
    fn long_lines_are_cut_and_many_lines_are_not_logged() {
        let long = vec![b'x'; 10 * LINE_BYTES];
        assert_eq!(lines(&[&long])[0].len(), LINE_BYTES);
        let (logged, others) = count(&["line\n".repeat(10 * LINES).as_bytes()]);
        assert_eq!((logged.len(), others), (LINES, 9 * LINES));
    }
}
