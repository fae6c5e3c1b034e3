//! The order of names in which people count: `model_9` before `model_10`.

use std::cmp::Ordering;

/// Compares two names; a run of digits is compared as a number.
pub fn compare(left: &str, right: &str) -> Ordering {
    let (mut left_rest, mut right_rest) = (left, right);
    while let (Some(left_part), Some(right_part)) = (first_part(left_rest), first_part(right_rest)) {
        let both_numbers = [left_part, right_part].iter().all(|part| part.starts_with(|c: char| c.is_ascii_digit()));
        let order = match both_numbers {
            true => by_value(left_part, right_part),
            false => left_part.cmp(right_part),
        };
        if order != Ordering::Equal {
            return order;
        }
        left_rest = &left_rest[left_part.len()..];
        right_rest = &right_rest[right_part.len()..];
    }
    // `a1` and `a01` are equal up to here.
    left_rest.len().cmp(&right_rest.len()).then_with(|| left.cmp(right))
}

/// The longest beginning that is all digits, or has none.
fn first_part(text: &str) -> Option<&str> {
    let is_number = text.chars().next()?.is_ascii_digit();
    let end = text.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(text.len());
    Some(&text[..end])
}

/// Compares digits of any length.
fn by_value(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_people_count() {
        let mut names = ["model_10", "b", "model_9", "model_099", "model", "a2b10", "a2b9", "model_9_x"];
        names.sort_by(|left, right| compare(left, right));
        assert_eq!(names, ["a2b9", "a2b10", "b", "model", "model_9", "model_9_x", "model_10", "model_099"]);
    }
}
