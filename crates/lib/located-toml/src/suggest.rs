//! The nearest known name, for messages about unknown ones.

use std::collections::HashSet;

/// Most names that are listed.
const LISTED: usize = 12;

/// The advice for an unknown name: the nearest known one, or the known ones if none is near.
pub fn suggestion<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut known: Vec<&str> = known.into_iter().collect();
    // An id that two servers have is suggested once.
    let mut seen = HashSet::new();
    known.retain(|name| seen.insert(*name));
    match nearest(unknown, &known) {
        Some(name) => Some(format!("did you mean `{name}`?")),
        None if known.is_empty() => None,
        None => {
            let more = if known.len() > LISTED { ", …" } else { "" };
            Some(format!("known here: {}{more}", known[..known.len().min(LISTED)].join(", ")))
        }
    }
}

/// The known name with the same words in another order, else the one with the fewest typing errors between it and `unknown`, if
/// these are few.
pub fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let words = sorted_words(unknown);
    if let Some(same) = known.iter().find(|name| name.len() == unknown.len() && sorted_words(name) == words) {
        return Some(same);
    }
    let farthest = 1 + unknown.chars().count() / 3;
    // A name with quite other characters is not near: that is seen without comparing the two step by step.
    let (letters, counts) = (letters_of(unknown), CharacterCounts::of(unknown));
    let near_length = |name: &&&str| name.len().abs_diff(unknown.len()) <= 4 * farthest;
    let common_letters = |name: &&&str| {
        let other = letters_of(name);
        (letters & !other).count_ones().max((other & !letters).count_ones()) as usize <= farthest
    };
    let similar = known.iter().filter(near_length).filter(common_letters);
    let similar = similar.filter(|name| counts.differ_from(name) <= farthest);
    let nearest = similar.map(|name| (strsim::damerau_levenshtein(unknown, name), *name)).min();
    nearest.filter(|(distance, _)| *distance <= farthest).map(|(_, name)| name)
}

/// Which characters occur, as bits: each that only one of two names has is a typing error at least. Several characters share a bit,
/// so that the errors are rather more.
fn letters_of(name: &str) -> u64 {
    name.bytes().fold(0, |letters, byte| letters | 1 << (byte & 63))
}

/// How often each character occurs, for a bound of the distance between two names that is quickly found.
struct CharacterCounts {
    /// In bytes, since this is copied for each name that is compared. A character that is there more often counts as another one.
    counts: [u8; 128],
    length: usize,
}

impl CharacterCounts {
    /// Counts all characters outside of ASCII as one.
    fn of(name: &str) -> Self {
        let mut counts = [0; 128];
        name.chars().for_each(|character| {
            let count: &mut u8 = &mut counts[Self::index(character)];
            *count = count.saturating_add(1);
        });
        Self { counts, length: name.chars().count() }
    }

    /// Characters that one of the two has and the other lacks: there are at least as many typing errors between them.
    fn differ_from(&self, name: &str) -> usize {
        let (mut left, mut common, mut length) = (self.counts, 0, 0);
        for character in name.chars() {
            length += 1;
            let count = &mut left[Self::index(character)];
            common += usize::from(*count > 0);
            *count = count.saturating_sub(1);
        }
        self.length.max(length) - common
    }

    fn index(character: char) -> usize {
        usize::try_from(u32::from(character)).unwrap_or(usize::MAX).min(127)
    }
}

fn sorted_words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = name.split(['-', '_']).map(str::to_ascii_lowercase).collect();
    words.sort();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_answered_with_the_list() {
        let known = ["listen", "state-dir", "profile"];
        assert_eq!(suggestion("lisen", known).as_deref(), Some("did you mean `listen`?"));
        assert_eq!(suggestion("state_dir", known).as_deref(), Some("did you mean `state-dir`?"));
        assert_eq!(suggestion("dir-state", known).as_deref(), Some("did you mean `state-dir`?"));
        assert_eq!(suggestion("quantum", known).as_deref(), Some("known here: listen, state-dir, profile"));
        assert_eq!(suggestion("quantum", ["a", "a", "b"]).as_deref(), Some("known here: a, b"));
        assert_eq!(suggestion("x", []), None);
    }

    #[test]
    fn the_bound_is_never_above_the_distance() {
        let names =
            ["", "ctx-size", "cxt-size", "ctx_size", "size-ctx", "größe", "grosse", "aaaa", "bbbbb", "threads-batch"];
        for (one, other) in names.iter().flat_map(|one| names.iter().map(move |other| (one, other))) {
            let bound = CharacterCounts::of(one).differ_from(other);
            assert!(bound <= strsim::damerau_levenshtein(one, other), "{one} {other}");
        }
    }
}
