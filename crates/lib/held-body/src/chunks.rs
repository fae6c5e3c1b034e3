//! The bytes of a body, in chunks whose memory is theirs.
//!
//! hyper's chunks are parts of the buffer of their connection: a chunk of one byte can keep one of 64 KiB. Short ones are copied.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use llama_warden_body_scan::BodyPart;

/// Chunks of at least this length are kept as they came: their buffer is at most twice as long.
const LONG: usize = 32 << 10;

/// The length of the buffers into which short ones are copied, but the first ones, which are as short as many bodies are.
const BUFFER: usize = 64 << 10;

/// Bytes in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chunks {
    whole: VecDeque<Bytes>,
    /// Short ones that came last.
    last: BytesMut,
    length: u64,
}

impl From<Bytes> for Chunks {
    fn from(bytes: Bytes) -> Self {
        Self { length: bytes.len() as u64, whole: VecDeque::from([bytes]), last: BytesMut::new() }
    }
}

impl Chunks {
    pub(crate) const fn len(&self) -> u64 {
        self.length
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        self.length += chunk.len() as u64;
        if chunk.len() >= LONG {
            self.end_last();
            self.whole.push_back(chunk);
            return;
        }
        if self.last.len() + chunk.len() > BUFFER {
            self.end_last();
        }
        // Grows to twice its length at most.
        self.last.extend_from_slice(&chunk);
    }

    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        if self.whole.is_empty() {
            self.end_last();
        }
        let chunk = self.whole.pop_front();
        self.length -= chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        chunk
    }

    /// All of them as one.
    pub(crate) fn concatenated(mut self) -> Bytes {
        self.end_last();
        if let [only] = self.whole.make_contiguous() {
            return only.clone();
        }
        let mut whole = BytesMut::with_capacity(usize::try_from(self.length).unwrap_or_default());
        self.whole.iter().for_each(|chunk| whole.extend_from_slice(chunk));
        whole.freeze()
    }

    /// The chunks as they are.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.whole.iter().map(|chunk| &**chunk).chain([&*self.last])
    }

    /// These parts of them. Long ones share the memory, and what was passed is given back.
    pub(crate) fn changed(mut self, parts: Vec<BodyPart>) -> Self {
        let (mut changed, mut begin) = (Self::default(), 0);
        self.end_last();
        for part in parts {
            let range = match part {
                BodyPart::New(text) => {
                    changed.push(text.into());
                    continue;
                }
                BodyPart::Kept(range) => range,
            };
            while let Some(chunk) = self.whole.front() {
                let (from, to) = (range.start.max(begin) - begin, range.end.saturating_sub(begin).min(chunk.len()));
                if from < to {
                    changed.push(chunk.slice(from..to));
                }
                if range.end < begin + chunk.len() {
                    break;
                }
                begin += chunk.len();
                self.whole.pop_front();
            }
        }
        changed.end_last();
        changed
    }

    /// Ends the buffer of short ones, so that copies of the body share it.
    pub(crate) fn end_last(&mut self) {
        if !self.last.is_empty() {
            self.whole.push_back(std::mem::take(&mut self.last).freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_chunks_come_out_however_the_chunks_are_cut() {
        let text: Vec<u8> = (0..=255).collect();
        for size in [1, 7, 100, 256] {
            let mut chunks = Chunks::default();
            for part in text.chunks(size) {
                chunks.end_last();
                chunks.push(Bytes::copy_from_slice(part));
            }
            let new = BodyPart::New("new".to_owned());
            let kept = [0..0, 0..7, 8..99, 99..200, 230..256].map(BodyPart::Kept);
            let changed = chunks.changed(kept.into_iter().chain([new]).collect());
            let expected = [&text[..7], &text[8..200], &text[230..], b"new"].concat();
            assert_eq!(changed.len(), expected.len() as u64, "{size}");
            assert_eq!(changed.concatenated(), expected, "{size}");
        }
    }

    #[test]
    fn chunks_come_out_in_their_order_and_short_ones_keep_no_long_buffer() {
        let mut chunks = Chunks::default();
        let mut expected = Vec::new();
        let buffer = Bytes::from(vec![7; 100_000]);
        for (number, length) in [1, 2, LONG, 3, BUFFER - 2, 1, 1, LONG + 1, LONG, 5].into_iter().enumerate() {
            let chunk = if length < LONG {
                buffer.slice(..length)
            } else {
                vec![u8::try_from(number).expect("small"); length].into()
            };
            expected.extend_from_slice(&chunk);
            chunks.push(chunk);
        }
        assert_eq!(chunks.len(), expected.len() as u64);
        assert_eq!(chunks.clone().concatenated(), expected);
        assert!(buffer.is_unique(), "nothing is kept of it");
        let mut popped = Vec::new();
        while let Some(chunk) = chunks.pop() {
            popped.extend_from_slice(&chunk);
            assert_eq!(chunks.len(), (expected.len() - popped.len()) as u64);
        }
        assert_eq!(popped, expected);
    }
}
