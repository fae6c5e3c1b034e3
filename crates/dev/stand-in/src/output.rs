//! Bytes to stdout and stderr, unbuffered.
//!
//! A write waits for as long as the pipe is full, as llama-server's do: whoever does not drain the pipe blocks the
//! server. A reader that has gone is no reason to end, so errors are dropped.

use std::{io, path::Path};

use nix::{errno::Errno, unistd};
use serde::{Deserialize, Serialize};

/// One of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error, where llama-server logs by default.
    #[default]
    Stderr,
}

/// Writes `text` in as few writes as the pipe allows.
pub(crate) fn write_text(stream: Stream, text: &str) {
    write_bytes(stream, text.as_bytes());
}

/// Writes `bytes` in as few writes as the pipe allows.
pub(crate) fn write_bytes(stream: Stream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let written = match stream {
            Stream::Stdout => unistd::write(io::stdout(), bytes),
            Stream::Stderr => unistd::write(io::stderr(), bytes),
        };
        match written {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// Writes a file that appears, or changes, as a whole.
pub(crate) fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    std::fs::write(&draft, text)?;
    std::fs::rename(&draft, path)
}
