//! Escapes control characters in texts of servers and files, before a terminal obeys them.
//!
//! A line of a server, a path or an error message may contain control characters. A terminal obeys them: they move the
//! cursor, set the clipboard (OSC 52), or make text look like another text.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The escape sequence that ends all colours.
const RESET: &str = "\x1b[0m";

/// `text` for a terminal: colours (SGR), tabs and line feeds pass, every other control character is shown as an escape such
/// as `\x1b`. A colour that is still on at the end of the text is ended.
pub fn for_terminal(text: &str) -> Cow<'_, str> {
    filtered(text, colour_sequence, |c| matches!(c, '\n' | '\t'))
}

/// `text` for a place of one line and a known width, such as a cell of a table: every control character is shown as an escape.
pub fn for_cell(text: &str) -> Cow<'_, str> {
    filtered(text, |_| None, |_| false)
}

fn filtered(text: &str, sequence: fn(&str) -> Option<&str>, passes: fn(char) -> bool) -> Cow<'_, str> {
    let acts = |c: char| acts_on_terminal(c) && !passes(c);
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut colour = RESET;
    let mut rest = text;
    while let Some(at) = rest.find(acts) {
        shown.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(passed) = sequence(rest) {
            shown.push_str(passed);
            colour = passed;
            rest = &rest[passed.len()..];
        } else if let Some(c) = rest.chars().next() {
            // Writing into a string cannot fail.
            let _ = match u32::from(c) {
                byte @ 0..=0xff => write!(shown, "\\x{byte:02x}"),
                other => write!(shown, "\\u{{{other:x}}}"),
            };
            rest = &rest[c.len_utf8()..];
        }
    }
    shown.push_str(rest);
    if !matches!(colour, RESET | "\x1b[m") {
        shown.push_str(RESET);
    }
    Cow::Owned(shown)
}

/// Whether a terminal does something else than show `c`: the control characters of ASCII and Latin-1, and the marks that reorder text.
fn acts_on_terminal(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The sequence that sets colours or weight (SGR) at the beginning of `text`.
fn colour_sequence(text: &str) -> Option<&str> {
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|c: char| !(c.is_ascii_digit() || matches!(c, ';' | ':')))?;
    parameters[end..].starts_with('m').then(|| &text[..text.len() - parameters.len() + end + 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_reach_a_terminal_as_they_are() {
        for (text, shown) in [
            ("plain\ttext\n", "plain\ttext\n"),
            ("\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m"),
            ("\x1b[38;5;9mred\x1b[m.", "\x1b[38;5;9mred\x1b[m."),
            ("\x1b[1mstays bold", "\x1b[1mstays bold\x1b[0m"),
            ("\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
            ("\x1b[2J", "\\x1b[2J"),
            ("\x1b[31", "\\x1b[31"),
            ("\x1b[>4;1m", "\\x1b[>4;1m"),
            ("\u{9b}31m", "\\x9b31m"),
            ("over\rwritten\x08", "over\\x0dwritten\\x08"),
            ("\x7f\0", "\\x7f\\x00"),
            ("\u{202e}fdp.exe", "\\u{202e}fdp.exe"),
            ("größe 模型", "größe 模型"),
        ] {
            assert_eq!(for_terminal(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_cell_stays_one_line_without_colours() {
        assert_eq!(for_cell("a\nb\t\x1b[31mc"), "a\\x0ab\\x09\\x1b[31mc");
        assert!(matches!(for_cell("plain"), Cow::Borrowed("plain")));
    }
}
