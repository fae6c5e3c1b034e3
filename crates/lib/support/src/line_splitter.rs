//! Cuts a byte stream into lines, whatever the sizes of its pieces.
//!
//! llama-server writes one log line in three or more pieces, and may write bytes that are not UTF-8 (measured). A line
//! ends at `\n`. A `\r` begins the line anew, as a progress bar does: of the segments between them the last one that is not
//! empty is the line. Memory is bounded: of a line longer than [`MAX_LINE`] the head and the tail are kept.

use std::borrow::Cow;

use memchr::{memchr, memrchr};

/// Longest line in bytes, without the line end.
pub const MAX_LINE: usize = 64 * 1024;

/// Stands for what is left out of the middle of a line.
const OMITTED: &[u8] = b" [...] ";

/// The line, or its head and its tail where it is longer than `most` bytes.
pub fn head_and_tail(line: &[u8], most: usize) -> Cow<'_, [u8]> {
    if line.len() <= most {
        return Cow::Borrowed(line);
    }
    let (head, tail) = shares(most);
    Cow::Owned([&line[..head], OMITTED, &line[line.len() - tail..]].concat())
}

/// Bytes of the head and of the tail that stay of a line with `most` bytes.
const fn shares(most: usize) -> (usize, usize) {
    let head = most.saturating_sub(OMITTED.len()).div_ceil(2);
    (head, most.saturating_sub(OMITTED.len() + head))
}

/// The state between two reads.
#[derive(Debug, Default)]
pub struct LineSplitter {
    /// The last segment of the line so far, with one `\r` behind it if it has ended. Where the middle is left out, the head and the
    /// tail follow each other.
    partial: Vec<u8>,
    is_cut: bool,
}

impl LineSplitter {
    /// Reads the next bytes; calls `on_line` for each line that they complete.
    pub fn feed(&mut self, mut bytes: &[u8], mut on_line: impl FnMut(&[u8])) {
        while let Some(end) = memchr(b'\n', bytes) {
            if self.partial.is_empty() {
                on_line(&head_and_tail(last_segment(&bytes[..end]), MAX_LINE));
            } else {
                self.extend(&bytes[..end]);
                self.emit(&mut on_line);
            }
            bytes = &bytes[end + 1..];
        }
        if !bytes.is_empty() {
            self.extend(bytes);
        }
    }

    /// Ends the stream: an incomplete line counts as a line.
    pub fn finish(&mut self, mut on_line: impl FnMut(&[u8])) {
        if !last_segment(&self.partial).is_empty() {
            self.emit(&mut on_line);
        }
        *self = Self::default();
    }

    /// Takes the line that has not ended, for another splitter that reads on.
    pub fn take_partial(&mut self) -> Vec<u8> {
        std::mem::take(self).partial
    }

    /// Bytes of memory that it holds until the line ends.
    pub fn held_bytes(&self) -> usize {
        self.partial.capacity()
    }

    /// Adds bytes without a line end to the line.
    fn extend(&mut self, bytes: &[u8]) {
        let ended = bytes.iter().rev().take_while(|byte| **byte == b'\r').count();
        let text = &bytes[..bytes.len() - ended];
        let segment = last_segment(text);
        if segment.len() < text.len() || (!text.is_empty() && self.partial.last() == Some(&b'\r')) {
            self.partial.clear();
            self.is_cut = false;
        }
        self.reserve(segment.len());
        self.partial.extend_from_slice(segment);
        if self.partial.len() > 2 * MAX_LINE {
            self.cut();
        }
        if ended > 0 && self.partial.last() != Some(&b'\r') {
            self.partial.push(b'\r');
        }
    }

    /// Makes room for a segment and its `\r`, up to a power of two. A buffer that doubles any size ends between one and two of them.
    fn reserve(&mut self, segment: usize) {
        let needed = self.partial.len() + segment + 1;
        if needed > self.partial.capacity() {
            self.partial.reserve_exact(needed.next_power_of_two() - self.partial.len());
        }
    }

    /// Leaves out the middle of the line. Not at each piece, so that the tail is moved once for several of them.
    fn cut(&mut self) {
        let (head, tail) = shares(MAX_LINE);
        let tail_at = self.partial.len() - tail;
        self.partial.copy_within(tail_at.., head);
        self.partial.truncate(head + tail);
        self.is_cut = true;
    }

    fn emit(&mut self, on_line: &mut impl FnMut(&[u8])) {
        // Taken instead of cleared: a server that prints nothing for months keeps no buffer.
        let mut partial = std::mem::take(&mut self.partial);
        if partial.last() == Some(&b'\r') {
            partial.pop();
        }
        if std::mem::take(&mut self.is_cut) {
            let (head, tail) = shares(MAX_LINE);
            on_line(&[&partial[..head], OMITTED, &partial[partial.len() - tail..]].concat());
        } else {
            on_line(&head_and_tail(&partial, MAX_LINE));
        }
    }
}

/// What stands behind the last `\r` that something follows.
fn last_segment(line: &[u8]) -> &[u8] {
    let mut line = line;
    while let [text @ .., b'\r'] = line {
        line = text;
    }
    memrchr(b'\r', line).map_or(line, |at| &line[at + 1..])
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
        let stream = b"one\r\n\ntwo \x1b[32mgreen\x1b[0m\n\xff\xfe\0not text\n10 %\r20 %\r\r\n\rnew\rer\n\r\nlast without an end";
        let whole = split([stream]);
        let expected: [&[u8]; 8] = [
            b"one",
            b"",
            b"two \x1b[32mgreen\x1b[0m",
            b"\xff\xfe\0not text",
            b"20 %",
            b"er",
            b"",
            b"last without an end",
        ];
        assert_eq!(whole, expected);
        for size in 1..stream.len() {
            assert_eq!(split(stream.chunks(size)), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn of_a_progress_bar_the_last_step_is_kept_and_takes_no_memory() {
        let mut splitter = LineSplitter::default();
        let mut lines = Vec::new();
        for step in 0..100_000 {
            splitter.feed(format!("{step:>60}\r").as_bytes(), |line| lines.push(line.to_vec()));
        }
        assert!(splitter.held_bytes() < 1024, "{} bytes are held", splitter.held_bytes());
        splitter.feed(b"error: no room\n", |line| lines.push(line.to_vec()));
        assert_eq!(lines, [b"error: no room"]);
        assert_eq!(split(["10 %\r", "20 %\r"]), [b"20 %"]);
    }

    #[test]
    fn a_line_is_cut_after_its_longest_length_and_keeps_its_head_and_its_tail() {
        for length in [MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 2 * MAX_LINE + 1, 9 * MAX_LINE] {
            for end in ["\n", "\r\n", "\r", ""] {
                let mut stream = vec![b'x'; length];
                stream[..4].copy_from_slice(b"head");
                stream[length - 4..].copy_from_slice(b"tail");
                stream.extend_from_slice(end.as_bytes());
                for size in [1000, MAX_LINE, stream.len()] {
                    let lines = split(stream.chunks(size));
                    assert_eq!(lines.len(), 1, "{length} {end:?} {size}");
                    let line = &lines[0];
                    assert_eq!(line.len(), length.min(MAX_LINE), "{length} {end:?} {size}");
                    assert!(line.starts_with(b"head") && line.ends_with(b"tail"), "{length} {end:?} {size}");
                    let is_marked = memchr::memmem::find(line, OMITTED).is_some();
                    assert_eq!(is_marked, length > MAX_LINE, "{length} {end:?} {size}");
                }
            }
        }
    }

    #[test]
    fn a_line_that_comes_in_odd_pieces_takes_no_more_memory() {
        for first in [1, MAX_LINE / 2 + 500, MAX_LINE + 518] {
            let mut splitter = LineSplitter::default();
            for piece in [first, 1, MAX_LINE, MAX_LINE - 1, 1, MAX_LINE] {
                splitter.feed(&vec![b'x'; piece], |_| {});
                assert!(
                    splitter.held_bytes() <= 4 * MAX_LINE,
                    "{} bytes are held after {first}",
                    splitter.held_bytes()
                );
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
        assert!(splitter.held_bytes() <= 4 * MAX_LINE, "{} bytes are held", splitter.held_bytes());
        splitter.feed(b"x\nnext\n", |line| lines.push(line.to_vec()));
        assert_eq!(splitter.held_bytes(), 0, "nothing is held between two lines");
        assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [MAX_LINE, 4]);
    }
}
