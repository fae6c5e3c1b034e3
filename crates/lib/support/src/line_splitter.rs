//! Cuts a byte stream into lines, whatever the sizes of its pieces.
//!
//! llama-server writes one log line in three or more pieces, and may write bytes that are not UTF-8 (measured). A line
//! ends at `\n`; one `\r` before it is not part of the line. Memory is bounded: of a line longer than [`MAX_LINE`] only the
//! beginning is kept.

use memchr::memchr;

/// Longest line in bytes, without the line end.
pub const MAX_LINE: usize = 64 * 1024;

/// The state between two reads.
#[derive(Debug, Default)]
pub struct LineSplitter {
    partial: Vec<u8>,
    is_skipping: bool,
}

impl LineSplitter {
    /// Reads the next bytes; calls `on_line` for each line that they complete.
    pub fn feed(&mut self, mut bytes: &[u8], mut on_line: impl FnMut(&[u8])) {
        while let Some(end) = memchr(b'\n', bytes) {
            let (rest_of_line, following) = (&bytes[..end], &bytes[end + 1..]);
            if self.is_skipping {
                self.is_skipping = false;
            } else if self.partial.is_empty() {
                emit(rest_of_line, &mut on_line);
            } else {
                // Taken instead of cleared: a server that prints nothing for months keeps no buffer.
                let mut line = std::mem::take(&mut self.partial);
                line.extend_from_slice(rest_of_line);
                emit(&line, &mut on_line);
            }
            bytes = following;
        }
        if !self.is_skipping {
            self.partial.extend_from_slice(bytes);
            // One byte more than the longest line: it may be the `\r`.
            if self.partial.len() > MAX_LINE + 1 {
                emit(&std::mem::take(&mut self.partial), &mut on_line);
                self.is_skipping = true;
            }
        }
    }

    /// Ends the stream: an incomplete line counts as a line.
    pub fn finish(&mut self, mut on_line: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            emit(&std::mem::take(&mut self.partial), &mut on_line);
        }
        self.is_skipping = false;
    }
}

fn emit(line: &[u8], on_line: &mut impl FnMut(&[u8])) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    on_line(line.get(..MAX_LINE).unwrap_or(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<Vec<u8>> {
        let mut lines = Vec::new();
        let mut splitter = LineSplitter::default();
        for piece in pieces {
            splitter.feed(piece.as_ref(), |line| lines.push(line.to_vec()));
        }
        splitter.finish(|line| lines.push(line.to_vec()));
        lines
    }

    #[test]
    fn lines_are_the_same_in_pieces_of_any_size() {
        let stream = b"one\r\n\ntwo \x1b[32mgreen\x1b[0m\n\xff\xfe\0not text\nlast without an end";
        let whole = split([stream]);
        let expected: [&[u8]; 5] =
            [b"one", b"", b"two \x1b[32mgreen\x1b[0m", b"\xff\xfe\0not text", b"last without an end"];
        assert_eq!(whole, expected);
        for size in 1..stream.len() {
            assert_eq!(split(stream.chunks(size)), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_is_cut_after_its_longest_length_and_not_before() {
        for length in [MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, MAX_LINE + 2] {
            for end in ["\n", "\r\n", ""] {
                let mut stream = vec![b'x'; length];
                stream.extend_from_slice(end.as_bytes());
                for size in [1000, MAX_LINE, stream.len()] {
                    let lines = split(stream.chunks(size));
                    assert_eq!(lines.len(), 1, "{length} {end:?} {size}");
                    assert_eq!(lines[0].len(), length.min(MAX_LINE), "{length} {end:?} {size}");
                }
            }
        }
    }

    #[test]
    fn one_line_of_100_mb_takes_no_memory_and_the_next_is_intact() {
        let mut splitter = LineSplitter::default();
        let mut lines = Vec::new();
        let piece = vec![b'x'; 64 * 1024];
        for _ in 0..1600 {
            splitter.feed(&piece, |line| lines.push(line.to_vec()));
        }
        assert!(splitter.partial.capacity() <= 4 * MAX_LINE, "{} bytes are held", splitter.partial.capacity());
        splitter.feed(b"x\nnext\n", |line| lines.push(line.to_vec()));
        assert_eq!(splitter.partial.capacity(), 0, "nothing is held between two lines");
        assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_LINE, 4]);
    }
}
