//! The nearest known name, for messages about unknown ones.

/// Most names that are listed.
const LISTED: usize = 12;

/// The advice for an unknown name: the nearest known one, or the known ones if none is near.
pub fn suggestion<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
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
    // A name of quite another length is not near: that is seen without comparing the two.
    let similar = known.iter().filter(|name| name.len().abs_diff(unknown.len()) <= 4 * farthest);
    let nearest = similar.map(|name| (strsim::damerau_levenshtein(unknown, name), *name)).min();
    nearest.filter(|(distance, _)| *distance <= farthest).map(|(_, name)| name)
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
        assert_eq!(suggestion("x", []), None);
    }
}
