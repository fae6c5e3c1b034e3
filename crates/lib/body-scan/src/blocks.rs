//! Where plain text ends, told for many bytes at once.

use wide::u8x16;

/// Bytes that are looked at in one step.
const BLOCK: usize = 64;

/// The bytes of a text that end plain text in a string: quotes, backslashes, control characters. What is known of a block is kept, since
/// short strings and escapes are several to a block.
#[derive(Debug)]
pub(crate) struct Specials<'a> {
    text: &'a [u8],
    /// Where the block begins that is known.
    begin: usize,
    /// A bit for each of its bytes, the first in the lowest place.
    marks: u64,
}

impl<'a> Specials<'a> {
    pub(crate) fn of(text: &'a [u8]) -> Self {
        Self { text, begin: 0, marks: marks_at(text, 0) }
    }

    /// The place of the first one from `at` on; the end of the text where none is left. No place before an earlier one is asked for.
    #[inline]
    pub(crate) fn next(&mut self, at: usize) -> usize {
        let behind = at - self.begin;
        if behind < BLOCK && self.marks >> behind != 0 {
            return at + (self.marks >> behind).trailing_zeros() as usize;
        }
        self.begin = at.max(self.begin + BLOCK);
        loop {
            self.marks = marks_at(self.text, self.begin);
            if self.marks != 0 {
                return self.begin + self.marks.trailing_zeros() as usize;
            }
            self.begin += BLOCK;
        }
    }
}

/// The marks of the block that begins at `begin`. Behind the end of the text, all are set.
#[inline]
fn marks_at(text: &[u8], begin: usize) -> u64 {
    let rest = &text[begin..];
    rest.first_chunk().map_or_else(|| marks_of_last(rest), marks)
}

#[cold]
fn marks_of_last(rest: &[u8]) -> u64 {
    // A NUL is a control character.
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    marks(&block)
}

fn marks(block: &[u8; BLOCK]) -> u64 {
    const QUOTE: u8x16 = u8x16::new([b'"'; 16]);
    const BACKSLASH: u8x16 = u8x16::new([b'\\'; 16]);
    const LAST_CONTROL: u8x16 = u8x16::new([0x1F; 16]);
    block.as_chunks().0.iter().rev().fold(0, |marks, bytes| {
        let bytes = u8x16::new(*bytes);
        let special = bytes.simd_eq(QUOTE) | bytes.simd_eq(BACKSLASH) | bytes.min(LAST_CONTROL).simd_eq(bytes);
        marks << 16 | u64::from(special.to_bitmask())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_plain_text_is_found_wherever_it_stands_and_nothing_else() {
        for length in [0, 1, 15, 16, 63, 64, 65, 127, 128, 129, 200] {
            for special in [b'"', b'\\', 0, b'\n', 0x1F] {
                for place in 0..length {
                    let mut text = [b'!', b' ', b'[', 0x7F, 0xC3, 0xFF].repeat(length)[..length].to_vec();
                    text[place] = special;
                    let mut specials = Specials::of(&text);
                    assert_eq!(specials.next(place / 2), place, "{special} in {length}");
                    assert_eq!(specials.next(place + 1), length, "{special} in {length}");
                }
            }
        }
    }
}
