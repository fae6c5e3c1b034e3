//! Why the header of a file cannot be used.

use std::io;

/// The longest header that is read, in bytes. Tokenizers of 260 000 words take about 10 MB.
pub(crate) const HEADER_LIMIT: u64 = 64 << 20;

/// Why the header of a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HeaderError {
    /// The operating system reports an error.
    #[error("cannot read the file: {0}")]
    Io(#[from] io::Error),
    /// The file is of no length.
    #[error("the file is empty")]
    Empty,
    /// It begins with other bytes than `GGUF`.
    #[error("the file begins with `{}`, not with `GGUF`", .0.escape_ascii())]
    NotGguf([u8; 4]),
    /// llama.cpp reads versions 2 and 3.
    #[error("GGUF version {0} is neither 2 nor 3")]
    Version(u32),
    /// The file ends within its header.
    #[error("the header goes on to byte {needed} at least, but the file ends at byte {file_bytes}")]
    HeaderCut { needed: u64, file_bytes: u64 },
    /// The file ends before the last byte of its tensors.
    #[error("the tensors go on to byte {needed}, but the file ends at byte {file_bytes}")]
    TensorsCut { needed: u64, file_bytes: u64 },
    /// The header is longer than anything that is read.
    #[error("the header is longer than {} MiB", HEADER_LIMIT >> 20)]
    TooLong,
    /// A count promises more than any header that is read can hold.
    #[error("the header promises {count} {what}, more than a header can hold")]
    Count { what: &'static str, count: u64 },
    /// A value breaks the format's rules.
    #[error("{what} is {found}, which GGUF does not know")]
    Malformed { what: &'static str, found: u64 },
}
