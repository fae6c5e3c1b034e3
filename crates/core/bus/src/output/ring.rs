//! A ring of lines in one block of bytes.
//!
//! Layout: each line is a header (order within its server, length) followed by its bytes; both may wrap around the end.
//! Invariant: `used` bytes from `head` on are whole entries, and `first..next` are their numbers.

/// Order within the server (8 bytes) and length (4 bytes).
const HEADER: usize = 12;
/// The smallest block.
const LEAST: usize = 4096;
/// The size of the block while the lines fit into it. A server that writes little does not get a mapping of its own, the
/// allocator's header of which takes a page.
const FIRST_BLOCK: usize = 1024;
/// Room for the allocator's header, so that a block of whole pages does not need one page more.
const BOOKKEEPING: usize = 64;

/// A ring of lines; it has no block until its first line.
#[derive(Debug, Default)]
pub(super) struct LineRing {
    capacity: usize,
    bytes: Box<[u8]>,
    head: usize,
    used: usize,
    first: u64,
    next: u64,
}

/// A line as the ring keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) order: u64,
    pub(super) bytes: Vec<u8>,
}

impl LineRing {
    /// A ring whose block will take up to `capacity` bytes of memory, but not fewer than [`LEAST`]. Untouched pages of it cost
    /// nothing.
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, ..Self::default() }
    }

    /// Resizes a ring that holds no line yet.
    pub(super) fn resize_if_untouched(&mut self, capacity: usize) {
        if self.next == 0 {
            *self = Self::new(capacity);
        }
    }

    /// Number of the oldest line that is kept.
    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    /// Number that the next line gets.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Appends a line; one that is longer than the ring keeps its beginning.
    pub(super) fn push(&mut self, order: u64, line: &[u8]) {
        let line = &line[..line.len().min(room(self.capacity) - HEADER)];
        let needed = HEADER + line.len();
        self.grow_for(needed);
        while self.bytes.len() - self.used < needed {
            self.forget_oldest();
        }
        let mut header = [0; HEADER];
        header[..8].copy_from_slice(&order.to_le_bytes());
        header[8..].copy_from_slice(&(line.len() as u32).to_le_bytes());
        let tail = self.wrap(self.head + self.used);
        self.write(tail, &header);
        self.write(self.wrap(tail + HEADER), line);
        self.used += needed;
        self.next += 1;
    }

    /// Makes the block larger until it has its full size.
    fn grow_for(&mut self, needed: usize) {
        let full = room(self.capacity);
        if self.bytes.len() == full || self.used + needed <= self.bytes.len() {
            return;
        }
        let size = if self.used + needed <= FIRST_BLOCK { FIRST_BLOCK } else { full };
        // A smaller block has not forgotten a line yet: its entries begin at 0 and do not wrap.
        let small = std::mem::replace(&mut self.bytes, vec![0; size].into());
        self.bytes[..self.used].copy_from_slice(&small[..self.used]);
    }

    /// Up to `most` lines from number `from` on.
    pub(super) fn read(&self, from: u64, most: usize) -> Vec<Entry> {
        let mut at = self.head;
        let mut entries = Vec::new();
        for number in self.first..self.next {
            let (order, len) = self.header(at);
            if number >= from {
                if entries.len() == most {
                    break;
                }
                entries.push(Entry { number, order, bytes: self.copy(self.wrap(at + HEADER), len) });
            }
            at = self.wrap(at + HEADER + len);
        }
        entries
    }

    fn forget_oldest(&mut self) {
        let (_, len) = self.header(self.head);
        self.head = self.wrap(self.head + HEADER + len);
        self.used -= HEADER + len;
        self.first += 1;
    }

    fn header(&self, at: usize) -> (u64, usize) {
        let mut order = [0; 8];
        let mut len = [0; 4];
        let bytes = self.copy_array::<HEADER>(at);
        order.copy_from_slice(&bytes[..8]);
        len.copy_from_slice(&bytes[8..]);
        (u64::from_le_bytes(order), u32::from_le_bytes(len) as usize)
    }

    const fn wrap(&self, at: usize) -> usize {
        at % self.bytes.len()
    }

    fn write(&mut self, at: usize, data: &[u8]) {
        let fits = data.len().min(self.bytes.len() - at);
        self.bytes[at..at + fits].copy_from_slice(&data[..fits]);
        self.bytes[..data.len() - fits].copy_from_slice(&data[fits..]);
    }

    fn copy(&self, at: usize, len: usize) -> Vec<u8> {
        let fits = len.min(self.bytes.len() - at);
        let mut data = Vec::with_capacity(len);
        data.extend_from_slice(&self.bytes[at..at + fits]);
        data.extend_from_slice(&self.bytes[..len - fits]);
        data
    }

    fn copy_array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut data = [0; N];
        let fits = N.min(self.bytes.len() - at);
        data[..fits].copy_from_slice(&self.bytes[at..at + fits]);
        data[fits..].copy_from_slice(&self.bytes[..N - fits]);
        data
    }
}

/// Bytes for lines in a block of `capacity` bytes.
fn room(capacity: usize) -> usize {
    capacity.max(LEAST) - BOOKKEEPING
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_ring_keeps_the_newest_lines_whole(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..900), 0..80)) {
            let mut ring = LineRing::new(4096);
            for (order, line) in lines.iter().enumerate() {
                ring.push(order as u64 * 3, line);
            }
            let kept = ring.read(0, usize::MAX);
            prop_assert_eq!(ring.next(), lines.len() as u64);
            prop_assert_eq!(ring.next() - ring.first(), kept.len() as u64);
            for entry in &kept {
                prop_assert_eq!(&entry.bytes, &lines[entry.number as usize]);
                prop_assert_eq!(entry.order, entry.number * 3);
            }
            // As many as fit are kept.
            let mut room = room(4096);
            let expected = lines.iter().rev().take_while(|line| {
                let fits = room >= HEADER + line.len();
                room = room.saturating_sub(HEADER + line.len());
                fits
            }).count();
            prop_assert_eq!(kept.len(), expected);
        }
    }

    #[test]
    fn a_ring_has_the_block_that_its_lines_need() {
        let mut ring = LineRing::new(64 << 10);
        assert_eq!(ring.bytes.len(), 0);
        ring.push(0, b"few");
        assert_eq!(ring.bytes.len(), FIRST_BLOCK);
        ring.push(1, &[b'x'; FIRST_BLOCK]);
        assert_eq!(ring.bytes.len(), room(64 << 10));
        let lines: Vec<_> = ring.read(0, usize::MAX).into_iter().map(|entry| entry.bytes).collect();
        assert_eq!(lines, [b"few".to_vec(), vec![b'x'; FIRST_BLOCK]]);
    }

    #[test]
    fn a_line_longer_than_the_ring_keeps_its_beginning() {
        let mut ring = LineRing::new(4096);
        ring.push(0, b"before");
        ring.push(1, &[b'x'; 10_000]);
        let kept = ring.read(0, usize::MAX);
        assert_eq!((kept.len(), kept[0].number, kept[0].bytes.len()), (1, 1, room(4096) - HEADER));
        ring.push(2, b"after");
        assert_eq!(ring.read(0, usize::MAX)[0].bytes, b"after");
    }
}
