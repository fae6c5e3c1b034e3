//! Skips consecutive texts, each stored as its length and its bytes.
//!
//! Tokenizers are most of a header, so most of a discovery's time is spent here. The start of a text is known only from the
//! length of the one before it, so a single walk waits for memory at each step. Therefore [`LANES`] walks run at once, each
//! in its own part of the bytes. All but the first start at a guess: where the bytes look like the start of a text. The
//! texts of such a walk count only if the walk before it ends exactly at that start, so a wrong guess costs only time.

use super::byte_order::ByteOrder;

/// Walks that run at once.
const LANES: usize = 4;

/// Bytes of the length in front of a text.
const LENGTH: usize = 8;

/// With fewer bytes than this, one walk is as fast as several.
const WORTH_A_GUESS: usize = 4096;

/// Lengths that a guess accepts as the length of a word. In texts without NUL, eight bytes at any other place near the start
/// of a text are a larger number.
const WORD: std::ops::RangeInclusive<u64> = 1..=255;

/// How far a walk over texts has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct SkippedTexts {
    pub(super) bytes: usize,
    pub(super) texts: u64,
}

/// Skips complete texts at the start of `bytes`, at most `most` of them. Skips at least one if there is one, and all of them
/// unless a guess was wrong.
pub(super) fn pass(bytes: &[u8], order: ByteOrder, most: u64) -> SkippedTexts {
    let may_hold_more = (bytes.len() / LENGTH) as u64 > most;
    if may_hold_more || bytes.len() < WORTH_A_GUESS {
        pass_one_by_one(bytes, order, most)
    } else {
        pass_in_lanes(bytes, order)
    }
}

fn pass_one_by_one(bytes: &[u8], order: ByteOrder, most: u64) -> SkippedTexts {
    let mut walk = SkippedTexts::default();
    while walk.texts < most && walk.step(bytes, order, bytes.len()) {}
    walk
}

fn pass_in_lanes(bytes: &[u8], order: ByteOrder) -> SkippedTexts {
    let starts: [usize; LANES] = std::array::from_fn(|lane| match lane {
        0 => 0,
        _ => guess(bytes, order, bytes.len() / LANES * lane),
    });
    let ends: [usize; LANES] = std::array::from_fn(|lane| starts.get(lane + 1).copied().unwrap_or(bytes.len()));
    let mut lanes = starts.map(|bytes| SkippedTexts { bytes, texts: 0 });
    // Each lane makes one step in turn, so the processor waits for four loads at once.
    while lanes.iter_mut().zip(ends).fold(false, |any, (lane, end)| lane.step(bytes, order, end) || any) {}
    let mut passed = SkippedTexts::default();
    for (lane, start) in lanes.into_iter().zip(starts) {
        if passed.bytes == start {
            passed = SkippedTexts { bytes: lane.bytes, texts: passed.texts + lane.texts };
        }
    }
    passed
}

/// The first place at or after `from` that looks like the start of a text; the end of `bytes` if there is none.
fn guess(bytes: &[u8], order: ByteOrder, from: usize) -> usize {
    let places = bytes[from..].array_windows().take(LENGTH + *WORD.end() as usize);
    let found = places.map(|length| order.number(*length)).position(|length| WORD.contains(&length));
    found.map_or(bytes.len(), |offset| from + offset)
}

impl SkippedTexts {
    /// Skips the next text if it starts before `end` and is complete.
    #[inline]
    fn step(&mut self, bytes: &[u8], order: ByteOrder, end: usize) -> bool {
        if self.bytes >= end {
            return false;
        }
        let Some((length, rest)) = bytes[self.bytes..].split_first_chunk() else { return false };
        let length = order.number(*length);
        if length > rest.len() as u64 {
            return false;
        }
        self.bytes += LENGTH + length as usize;
        self.texts += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(texts: &[Vec<u8>], order: ByteOrder) -> Vec<u8> {
        let length = |text: &[u8]| match order {
            ByteOrder::Little => (text.len() as u64).to_le_bytes(),
            ByteOrder::Big => (text.len() as u64).to_be_bytes(),
        };
        texts.iter().flat_map(|text| length(text).into_iter().chain(text.iter().copied())).collect()
    }

    /// Passes until nothing is passed any more.
    fn pass_all(bytes: &[u8], order: ByteOrder) -> SkippedTexts {
        let mut all = SkippedTexts::default();
        loop {
            let passed = pass(&bytes[all.bytes..], order, u64::MAX);
            if passed == SkippedTexts::default() {
                return all;
            }
            all = SkippedTexts { bytes: all.bytes + passed.bytes, texts: all.texts + passed.texts };
        }
    }

    fn orders() -> impl Strategy<Value = ByteOrder> {
        prop_oneof![Just(ByteOrder::Little), Just(ByteOrder::Big)]
    }

    /// Texts that are words, or hold what looks like the beginning of one.
    fn texts() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let word = prop::collection::vec(b'a'..=b'z', 0..12);
        let long = (any::<u8>(), 200_usize..600).prop_map(|(byte, length)| vec![byte; length]);
        let decoy = prop::collection::vec(prop_oneof![4 => Just(0_u8), 1 => 0_u8..16], 0..60);
        prop::collection::vec(prop_oneof![6 => word, 1 => long, 3 => decoy], 0..500)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn every_whole_text_is_passed_whatever_the_guesses_were(
            texts in texts(), order in orders(), cut in prop_oneof![Just(0_usize), 1_usize..100]
        ) {
            let mut bytes = written(&texts, order);
            bytes.truncate(bytes.len().saturating_sub(cut));
            let whole = pass_one_by_one(&bytes, order, u64::MAX);
            prop_assert_eq!(pass_all(&bytes, order), whole);
            if cut == 0 {
                prop_assert_eq!(whole, SkippedTexts { bytes: bytes.len(), texts: texts.len() as u64 });
            }
        }

        #[test]
        fn anything_at_all_is_passed_as_by_one_walk(bytes in prop::collection::vec(0_u8..3, 0..6000), order in orders()) {
            prop_assert_eq!(pass_all(&bytes, order), pass_one_by_one(&bytes, order, u64::MAX));
        }

        #[test]
        fn no_more_texts_are_passed_than_are_asked_for(texts in texts(), order in orders(), most in 0_u64..700) {
            let passed = pass(&written(&texts, order), order, most);
            prop_assert!(passed.texts <= most.min(texts.len() as u64));
            prop_assert!(passed.texts > 0 || most == 0 || texts.is_empty());
        }
    }

    #[test]
    fn words_are_passed_in_one_go() {
        let words: Vec<Vec<u8>> = (0..5000).map(|number: usize| vec![b'w'; 1 + number % 13]).collect();
        for order in [ByteOrder::Little, ByteOrder::Big] {
            let bytes = written(&words, order);
            let all = SkippedTexts { bytes: bytes.len(), texts: 5000 };
            assert_eq!(pass(&bytes, order, u64::MAX), all, "{order:?}");
        }
    }
}
