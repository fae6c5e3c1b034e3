//! SWAR: eight bytes of a line at once, each in a lane of one 64-bit word.
//!
//! Vector instructions would do more at once. Compilers make them of such a loop only at times, and otherwise the loop is
//! three times as slow as this one.
//!
//! Worked example: does `b"ab:cdefg"` hold a colon? XOR with a colon in each lane makes exactly the matching lanes 0, and
//! [`zero_lanes`] finds those:
//!
//! ```text
//! load(b"ab:cdefg")             61 62 3a 63 64 65 66 67
//! splat(b':')                   3a 3a 3a 3a 3a 3a 3a 3a
//! XOR                           5b 58 00 59 5e 5f 5c 5d
//! zero_lanes                    00 00 80 00 00 00 00 00     not 0: there is one
//! ```
//!
//! Subtracting 1 from a lane of 0 borrows and sets its high bit; `& !word` discards lanes that had the bit before.

/// Bytes of a word.
pub(super) const LANES: usize = size_of::<u64>();
/// A 1 in each lane.
const ONES: u64 = 0x0101_0101_0101_0101;

/// Loads eight bytes, the first one into the lowest lane.
pub(super) const fn load(bytes: [u8; LANES]) -> u64 {
    u64::from_le_bytes(bytes)
}

/// The same byte in each lane.
pub(super) const fn splat(byte: u8) -> u64 {
    byte as u64 * ONES
}

/// Not 0 if some lane of `word` is 0.
///
/// The lowest set bit marks the first such lane. A lane above it may be marked wrongly, since the borrow reaches it: use the
/// result as a yes or no.
pub(super) const fn zero_lanes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & splat(0x80)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_of_zero_is_seen_wherever_it_is_and_nothing_else_is() {
        for lane in 0..LANES {
            for byte in 0..=u8::MAX {
                let mut bytes = [0xff; LANES];
                bytes[lane] = byte;
                assert_eq!(zero_lanes(load(bytes)) != 0, byte == 0, "{bytes:x?}");
            }
        }
    }
}
