//! A bounded forward reader over the first bytes of a file.
//!
//! Memory is one buffer of at most [`CHUNK`] bytes for any file, and no byte at or after [`HEADER_LIMIT`] is read.
//! Bytes that are skipped beyond the buffer are passed over by a seek and never read.

use std::io::{ErrorKind, Read, Seek, SeekFrom};

use super::byte_order::ByteOrder;
use super::error::{HEADER_LIMIT, HeaderError};
use super::texts;

/// Bytes read at once, and the longest text that is kept.
pub(crate) const CHUNK: usize = 64 << 10;

/// Bytes read at first: many files are no models, and the header of a small one is no longer.
const FIRST_CHUNK: usize = 8 << 10;

/// The part of a file that may be read.
pub(crate) struct Prefix<R> {
    source: R,
    file_bytes: u64,
    order: ByteOrder,
    /// [`FIRST_CHUNK`] bytes until more are needed, then [`CHUNK`].
    buffer: Vec<u8>,
    /// The unread bytes of the buffer.
    start: usize,
    end: usize,
    /// Where in the file the buffer's `end` lies.
    read_to: u64,
}

impl<R: Read + Seek> Prefix<R> {
    /// Reads `source`, which stands at its start and is `file_bytes` long, as little-endian until the order is set.
    pub(crate) fn new(source: R, file_bytes: u64) -> Self {
        let buffer = vec![0; FIRST_CHUNK];
        Self { source, file_bytes, order: ByteOrder::Little, buffer, start: 0, end: 0, read_to: 0 }
    }

    /// Reads numbers in this order from here on.
    pub(crate) fn set_order(&mut self, order: ByteOrder) {
        self.order = order;
    }

    /// The length of the file in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// The offset of the next byte.
    pub(crate) fn position(&self) -> u64 {
        self.read_to - (self.end - self.start) as u64
    }

    /// The next `N` bytes.
    pub(crate) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], HeaderError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N)?);
        Ok(bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, HeaderError> {
        Ok(self.unsigned(4)? as u32)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, HeaderError> {
        let bytes = self.bytes()?;
        Ok(self.order.number(bytes))
    }

    /// An unsigned number of `width` bytes, 1 to 8.
    pub(crate) fn unsigned(&mut self, width: usize) -> Result<u64, HeaderError> {
        let order = self.order;
        let append = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        let bytes = self.take(width)?;
        Ok(match order {
            ByteOrder::Little => bytes.iter().rev().fold(0, append),
            ByteOrder::Big => bytes.iter().fold(0, append),
        })
    }

    /// A text with its length before it, of which the first `keep` bytes (at most [`CHUNK`]) are returned.
    pub(crate) fn text(&mut self, keep: usize) -> Result<String, HeaderError> {
        let length = self.u64()?;
        let kept = length.min(keep as u64) as usize;
        let text = String::from_utf8_lossy(self.take(kept)?).into_owned();
        self.skip(length - kept as u64)?;
        Ok(text)
    }

    /// Passes over `count` texts, each with its length before it. Ends early only in an error: each text takes eight bytes or more, and the prefix is
    /// bounded.
    pub(crate) fn skip_texts(&mut self, count: u64) -> Result<(), HeaderError> {
        let mut left = count;
        loop {
            let passed = texts::pass(&self.buffer[self.start..self.end], self.order, left);
            self.start += passed.bytes;
            left -= passed.texts;
            if left == 0 {
                return Ok(());
            }
            let length = self.u64()?;
            self.skip(length)?;
            left -= 1;
        }
    }

    /// Passes over `count` bytes.
    pub(crate) fn skip(&mut self, count: u64) -> Result<(), HeaderError> {
        let buffered = self.end - self.start;
        if count <= buffered as u64 {
            self.start += count as usize;
            return Ok(());
        }
        let target = self.within_limits(count)?;
        self.source.seek(SeekFrom::Start(target))?;
        (self.start, self.end, self.read_to) = (0, 0, target);
        Ok(())
    }

    /// The next `count` bytes, at most [`CHUNK`].
    fn take(&mut self, count: usize) -> Result<&[u8], HeaderError> {
        if self.end - self.start < count {
            self.fill(count)?;
        }
        let taken = self.start..self.start + count;
        self.start = taken.end;
        Ok(&self.buffer[taken])
    }

    /// Reads until the buffer holds `count` unread bytes.
    fn fill(&mut self, count: usize) -> Result<(), HeaderError> {
        let needed = self.within_limits(count as u64)?;
        let unread = self.start..self.end;
        if self.buffer.len() < CHUNK && (self.read_to > 0 || count > self.buffer.len()) {
            // The allocator zeroes a new block at once; `resize` writes byte after byte in a build for size, which takes longer than
            // the file.
            let first = std::mem::replace(&mut self.buffer, vec![0; CHUNK]);
            self.buffer[..unread.len()].copy_from_slice(&first[unread.clone()]);
        } else {
            self.buffer.copy_within(unread.clone(), 0);
        }
        (self.start, self.end) = (0, unread.len());
        while self.end < count {
            let room = (HEADER_LIMIT - self.read_to).min((self.buffer.len() - self.end) as u64) as usize;
            match self.source.read(&mut self.buffer[self.end..self.end + room]) {
                // The file has become shorter since its length was taken.
                Ok(0) => return Err(HeaderError::HeaderCut { needed, file_bytes: self.read_to }),
                Ok(read) => {
                    self.end += read;
                    self.read_to += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The offset `count` bytes from here, when the file and the limit reach to it.
    fn within_limits(&self, count: u64) -> Result<u64, HeaderError> {
        let needed = self.position().saturating_add(count);
        if needed > self.file_bytes {
            Err(HeaderError::HeaderCut { needed, file_bytes: self.file_bytes })
        } else if needed > HEADER_LIMIT {
            Err(HeaderError::TooLong)
        } else {
            Ok(needed)
        }
    }
}
