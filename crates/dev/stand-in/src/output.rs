//! Unbuffered writes to stdout and stderr.
//!
//! As in llama-server, a write blocks while the pipe is full: a reader that does not drain the pipe blocks the server.
//! Write errors are ignored, since llama-server also runs on after its reader is gone.

use std::{io, path::Path};

use nix::{errno::Errno, unistd};
use serde::{Deserialize, Serialize};

/// One of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error, to which llama-server logs by default.
    #[default]
    Stderr,
}

/// Writes text or bytes in as few writes as the pipe allows.
pub(crate) fn write(stream: Stream, data: impl AsRef<[u8]>) {
    let mut bytes = data.as_ref();
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

/// Replaces a file in one step: a reader sees the old text or the new one.
pub(crate) fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    std::fs::write(&draft, text)?;
    std::fs::rename(&draft, path)
}
