//! The nearest known name, for messages about unknown ones.

/// Most names that are listed.
const MOST_LISTED: usize = 20;

/// The advice for an unknown name: the nearest known one, or if none is near those that there are, at most 20.
pub fn suggestion<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    let nearest = known.iter().map(|name| (strsim::damerau_levenshtein(unknown, name), name)).min()?;
    let (distance, name) = nearest;
    if distance <= 1 + unknown.chars().count() / 3 {
        Some(format!("did you mean `{name}`?"))
    } else {
        let more = known.len().saturating_sub(MOST_LISTED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        Some(format!("known here: {}{more}", known[..known.len().min(MOST_LISTED)].join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_answered_with_the_list() {
        let known = ["listen", "state-dir", "profile"];
        assert_eq!(suggestion("lisen", known).as_deref(), Some("did you mean `listen`?"));
        assert_eq!(suggestion("state_dir", known).as_deref(), Some("did you mean `state-dir`?"));
        assert_eq!(suggestion("quantum", known).as_deref(), Some("known here: listen, state-dir, profile"));
        assert_eq!(suggestion("x", []), None);
    }
}
