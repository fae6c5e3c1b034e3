//! What a command says: its lines in the log, bounded in number and length.

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

/// Reads a stream to its end and logs its lines; `last` holds the last line with anything in it.
pub(crate) async fn log_lines(
    call: &HookCall,
    stream: StreamName,
    pipe: OwnedFd,
    last: &mut Option<String>,
) -> io::Result<()> {
    let mut pipe = Receiver::from_owned_fd(pipe)?;
    let mut lines = Lines::default();
    let mut chunk = [0; 4096];
    loop {
        let read = pipe.read(&mut chunk).await?;
        lines.take(&chunk[..read], read == 0, |line| {
            tracing::info!(server = %call.server, hook = %call.hook, %stream, line, "hook says");
            *last = Some(line.to_owned());
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
    fn take(&mut self, bytes: &[u8], is_end: bool, mut tell: impl FnMut(&str)) {
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

    fn finish(&mut self, tell: &mut impl FnMut(&str)) {
        let line = String::from_utf8_lossy(&self.begun);
        let line = line.trim_end();
        if !line.is_empty() && self.told < LINES {
            self.told += 1;
            tell(line);
        }
        self.begun.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut told) = (Lines::default(), Vec::new());
        for (index, chunk) in chunks.iter().enumerate() {
            lines.take(chunk, index + 1 == chunks.len(), |line| told.push(line.to_owned()));
        }
        told
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(lines(&[b"on", b"e\r\ntwo\n\n", b"three"]), ["one", "two", "three"]);
        assert_eq!(lines(&[b"\xff\n"]), ["\u{fffd}"]);
    }

    #[test]
    fn long_lines_are_cut_and_many_lines_are_dropped() {
        let long = vec![b'x'; 10 * LINE_BYTES];
        assert_eq!(lines(&[&long])[0].len(), LINE_BYTES);
        assert_eq!(lines(&["line\n".repeat(10 * LINES).as_bytes()]).len(), LINES);
    }
}
