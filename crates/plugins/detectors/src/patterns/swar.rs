//! Eight bytes of a line at once, each in a lane of a word. Vector instructions do more at once, but compilers make them of
//! a loop of this kind only at times, and three times as slow a loop at others.

/// Bytes of a word.
pub(super) const LANES: usize = size_of::<u64>();
/// A 1 in each lane.
const ONES: u64 = 0x0101_0101_0101_0101;

/// These bytes, from the first on.
pub(super) const fn load(bytes: [u8; LANES]) -> u64 {
    u64::from_le_bytes(bytes)
}

/// This byte in each lane.
pub(super) const fn splat(byte: u8) -> u64 {
    byte as u64 * ONES
}

/// Not 0 if a lane is: its high bit, which borrowing from it sets. The lane behind it may pass for a 0 too.
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
