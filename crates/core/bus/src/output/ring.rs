//! A ring of lines in one block of bytes.
//!
//! Layout: each line is a header (order within its server, time, length) followed by its bytes; both may wrap around the end.
//! Invariant: `used` bytes from `head` on are whole entries, and `first..next` are their numbers.

use llama_warden_events::Timestamp;

/// Order within the server (6 bytes), microseconds since the Unix epoch (7 bytes, which last for 2000 years) and length (3 bytes).
const HEADER: usize = 16;
const TIME_BITS: u32 = 56;
const LENGTH_BITS: u32 = 24;
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
    pub(super) at: Timestamp,
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

    /// Appends a line that was read at `at`; one that is longer than the ring keeps its beginning.
    pub(super) fn push(&mut self, order: u64, at: Timestamp, line: &[u8]) {
        let most = (room(self.capacity) - HEADER).min(low_bits(LENGTH_BITS) as usize);
        let line = &line[..line.len().min(most)];
        let needed = HEADER + line.len();
        self.grow_for(needed);
        while self.bytes.len() - self.used < needed {
            self.forget_oldest();
        }
        // A clock before 1970 counts as the epoch.
        let time = at.as_unix_microseconds().max(0) as u64 & low_bits(TIME_BITS);
        let header =
            u128::from(order) << (TIME_BITS + LENGTH_BITS) | u128::from(time) << LENGTH_BITS | line.len() as u128;
        let tail = self.wrap(self.head + self.used);
        self.write(tail, &header.to_le_bytes());
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
            let (order, time, len) = self.header(at);
            if number >= from {
                if entries.len() == most {
                    break;
                }
                let bytes = self.copy(self.wrap(at + HEADER), len);
                entries.push(Entry { number, order, at: Timestamp::from_unix_microseconds(time as i64), bytes });
            }
            at = self.wrap(at + HEADER + len);
        }
        entries
    }

    fn forget_oldest(&mut self) {
        let (_, _, len) = self.header(self.head);
        self.head = self.wrap(self.head + HEADER + len);
        self.used -= HEADER + len;
        self.first += 1;
    }

    /// Order, time and length of the line at this place.
    fn header(&self, at: usize) -> (u64, u64, usize) {
        let header = u128::from_le_bytes(self.copy_array::<HEADER>(at));
        let length = header as u64 & low_bits(LENGTH_BITS);
        let time = (header >> LENGTH_BITS) as u64 & low_bits(TIME_BITS);
        ((header >> (TIME_BITS + LENGTH_BITS)) as u64, time, length as usize)
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

const fn low_bits(count: u32) -> u64 {
    (1 << count) - 1
}

/// Bytes for lines in a block of `capacity` bytes.
fn room(capacity: usize) -> usize {
    capacity.max(LEAST) - BOOKKEEPING
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A time of 2026.
    fn time(number: i64) -> Timestamp {
        Timestamp::from_unix_microseconds(1_792_000_000_123_456 + number)
    }

    #[test]
    fn a_line_keeps_its_place_and_its_time_in_the_oldest_and_the_longest_run() {
        let [first, last] = ["1970-01-01T00:00:00Z", "2999-12-31T23:59:59.999999Z"];
        let mut ring = LineRing::new(4096);
        for (order, at) in [(0, first), ((1 << 48) - 1, last)] {
            let at = Timestamp::new(at.parse().expect("valid"));
            ring.push(order, at, b"line");
            let kept = ring.read(0, usize::MAX).pop().expect("a line");
            assert_eq!((kept.order, kept.at, &*kept.bytes), (order, at, &b"line"[..]));
        }
    }

    proptest! {
        #[test]
        fn the_ring_keeps_the_newest_lines_whole(lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..900), 0..80)) {
            let mut ring = LineRing::new(4096);
            for (order, line) in lines.iter().enumerate() {
                ring.push(order as u64 * 3, time(order as i64), line);
            }
            let kept = ring.read(0, usize::MAX);
            prop_assert_eq!(ring.next(), lines.len() as u64);
            prop_assert_eq!(ring.next() - ring.first(), kept.len() as u64);
            for entry in &kept {
                prop_assert_eq!(&entry.bytes, &lines[entry.number as usize]);
                prop_assert_eq!((entry.order, entry.at), (entry.number * 3, time(entry.number as i64)));
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
        ring.push(0, time(0), b"few");
        assert_eq!(ring.bytes.len(), FIRST_BLOCK);
        ring.push(1, time(1), &[b'x'; FIRST_BLOCK]);
        assert_eq!(ring.bytes.len(), room(64 << 10));
        let lines: Vec<_> = ring.read(0, usize::MAX).into_iter().map(|entry| entry.bytes).collect();
        assert_eq!(lines, [b"few".to_vec(), vec![b'x'; FIRST_BLOCK]]);
    }

    #[test]
    fn a_line_longer_than_the_ring_keeps_its_beginning() {
        let mut ring = LineRing::new(4096);
        ring.push(0, time(0), b"before");
        ring.push(1, time(1), &[b'x'; 10_000]);
        let kept = ring.read(0, usize::MAX);
        assert_eq!((kept.len(), kept[0].number, kept[0].bytes.len()), (1, 1, room(4096) - HEADER));
        ring.push(2, time(2), b"after");
        assert_eq!(ring.read(0, usize::MAX)[0].bytes, b"after");
    }
}
