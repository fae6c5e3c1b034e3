//! What a command says: its lines in the log, bounded in number and length, and its last words.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use llama_warden_events::StreamName;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::call::HookCall;

/// Most lines of a stream that are logged; what follows is read and dropped, so that the command is not blocked.
const LINES: usize = 100;
/// Most bytes of a line that are logged.
const LINE_BYTES: usize = 1024;
/// Last lines of a stream that are kept.
const LAST_LINES: usize = 10;

/// The last lines of a stream with anything in them, oldest first.
pub(crate) type LastLines = VecDeque<String>;

/// Reads a stream to its end, logs its first lines, and keeps the last ones.
pub(crate) async fn log_lines(
    call: &HookCall,
    stream: StreamName,
    pipe: OwnedFd,
    last: &mut LastLines,
) -> io::Result<()> {
    let mut pipe = Receiver::from_owned_fd(pipe)?;
    let mut lines = Lines::default();
    let mut chunk = [0; 4096];
    loop {
        let read = pipe.read(&mut chunk).await?;
        lines.take(&chunk[..read], read == 0, |line, is_logged| {
            if is_logged {
                tracing::info!(server = %call.server, hook = %call.hook, %stream, line, "hook says");
            }
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(line.to_owned());
        });
        if read == 0 {
            return Ok(());
        }
    }
}

#[derive(Debug, Default)]
struct Lines {
    begun: Vec<u8>,
    told: usize,
}

impl Lines {
    /// Tells each line with anything in it, and whether it is one of the first.
    fn take(&mut self, bytes: &[u8], is_end: bool, mut tell: impl FnMut(&str, bool)) {
        for &byte in bytes {
            match byte {
                b'\n' => self.finish(&mut tell),
                _ if self.begun.len() < LINE_BYTES => self.begun.push(byte),
                _ => {}
            }
        }
        if is_end {
            self.finish(&mut tell);
        }
    }

    fn finish(&mut self, tell: &mut impl FnMut(&str, bool)) {
        let line = String::from_utf8_lossy(&self.begun);
        let line = line.trim_end();
        if !line.is_empty() {
            tell(line, self.told < LINES);
            self.told = self.told.saturating_add(1);
        }
        self.begun.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that are logged, and how many are not.
    fn told(chunks: &[&[u8]]) -> (Vec<String>, usize) {
        let (mut lines, mut told) = (Lines::default(), (Vec::new(), 0));
        for (index, chunk) in chunks.iter().enumerate() {
            lines.take(chunk, index + 1 == chunks.len(), |line, is_logged| match is_logged {
                true => told.0.push(line.to_owned()),
                false => told.1 += 1,
            });
        }
        told
    }

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        told(chunks).0
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(lines(&[b"on", b"e\r\ntwo\n\n", b"three"]), ["one", "two", "three"]);
        assert_eq!(lines(&[b"\xff\n"]), ["\u{fffd}"]);
    }

    #[test]
    fn long_lines_are_cut_and_many_lines_are_not_logged() {
        let long = vec![b'x'; 10 * LINE_BYTES];
        assert_eq!(lines(&[&long])[0].len(), LINE_BYTES);
        let (logged, others) = told(&["line\n".repeat(10 * LINES).as_bytes()]);
        assert_eq!((logged.len(), others), (LINES, 9 * LINES));
    }
}
