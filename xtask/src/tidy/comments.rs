//! Comments: what documents an item says more than one word.

use super::{Checkout, Source, Violation};

const RULE: &str = "one-word comment";

/// Finds doc comments of a single word.
pub fn check(checkout: &Checkout) -> Vec<Violation> {
    checkout.sources.iter().filter(|source| source.is_rust()).flat_map(check_source).collect()
}

fn check_source(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut before = None;
    let mut lines = source.text.lines().enumerate().peekable();
    while let Some((index, line)) = lines.next() {
        let text = doc_text(line);
        let is_alone = before.is_none() && lines.peek().is_none_or(|(_, next)| doc_text(next).is_none());
        if let Some(word) = text.filter(|text| is_alone && is_one_word(text)) {
            let advice = format!("`{word}` alone says nothing: give the unit, the range or the effect");
            violations.push(Violation::of_line(&source.path, index + 1, RULE, advice));
        }
        before = text;
    }
    violations
}

/// The text of a line of documentation.
fn doc_text(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("///").filter(|text| !text.starts_with('/')).map(str::trim)
}

/// Backticks name something, and a word with a digit is the code of a fault, which points at its row in `docs/faults.md`.
fn is_one_word(text: &str) -> bool {
    let word = text.trim_end_matches('.');
    !word.is_empty() && word.chars().all(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        check(&Checkout::of(&[("a.rs", text)])).into_iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn a_comment_of_one_word_is_found() {
        assert_eq!(lines("struct A {\n    /// Which.\n    b: u8,\n    /// Bytes\n    c: u8,\n}"), [2, 4]);
    }

    #[test]
    fn sentences_paragraphs_and_codes_of_faults_are_comments() {
        for text in [
            "/// Which one.\n",
            "/// Which.\n///\n/// The first.\n",
            "/// C24.\n",
            "/// `[logs]`.\n",
            "//! Job.\n",
            "//// Line.\n",
        ] {
            assert_eq!(lines(text), [0; 0], "{text}");
        }
    }
}
