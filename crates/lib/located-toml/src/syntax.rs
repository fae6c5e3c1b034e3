//! Says what is wrong where a text is no TOML: the usual slips each get a sentence of their own.

use std::ops::Range;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use crate::problem::{ConfigProblem, Document, Location, SHOWN};

/// The next step after any other syntax error.
const NO_TOML: &str = "this is no TOML: a line is `key = value`, a table is `[name]`, strings are in quotes";

/// What the parser says of a key that is there already. It keeps the first.
const DUPLICATE: &str = "duplicate key";

/// Errors about a single value, after which the rest of the text still means what it says.
const ONE_VALUE: [&str; 5] =
    ["string values must be quoted", "invalid boolean", "invalid integer", "invalid float", "invalid date-time"];

/// The syntax errors of a document, and whether the tree that the parser recovered is worth reading: what follows a stray
/// quote or an open bracket is noise.
pub(crate) struct SyntaxErrors {
    pub(crate) problems: Vec<ConfigProblem>,
    pub(crate) is_readable: bool,
}

impl SyntaxErrors {
    /// `tree` is what was recovered from the document.
    pub(crate) fn of(document: &Arc<Document>, errors: &[toml::de::Error], tree: &DeTable<'_>) -> Self {
        let is_readable = |error: &toml::de::Error| {
            error.message() == DUPLICATE || ONE_VALUE.iter().any(|message| error.message().starts_with(message))
        };
        let mut this = Self { problems: Vec::new(), is_readable: errors.iter().all(is_readable) };
        let mut odd_lines = Vec::new();
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let location = Location::Text { document: Arc::clone(document), span: span.clone() };
            if this.problems.len() >= SHOWN {
                // Looking for the cause takes time, and the later ones are not shown.
                this.problems.push(ConfigProblem::error(&location, error.message(), NO_TOML));
                continue;
            }
            let line = line_around(&document.text, span.start);
            if let Some(found) = OddCharacter::in_line(&document.text, line.clone()) {
                this.is_readable = false;
                // The parser stumbles more than once over it.
                if !odd_lines.contains(&line.start) {
                    odd_lines.push(line.start);
                    this.problems.push(found.problem(document));
                }
            } else if error.message() == DUPLICATE {
                this.problems.push(duplicate(document, &location, span, tree));
            } else {
                let text = document.text.get(span).unwrap_or_default();
                this.problems.push(ConfigProblem::error(&location, error.message(), advice(text)));
            }
        }
        this
    }
}

/// The next step for a bare word that is no value, or for a control character in a text.
fn advice(word: &str) -> String {
    if let Some(control) = word.chars().next().filter(|letter| letter.is_control() && !matches!(letter, '\n' | '\r')) {
        return format!("write `\\u{:04X}` in its place", u32::from(control));
    }
    let is_word =
        word.len() < 64 && !word.is_empty() && !word.contains(['"', '\'', '\n', '[', ']', '{', '}', '=', '#']);
    match word.to_ascii_lowercase().as_str() {
        lower @ ("true" | "false") => format!("write `{lower}`, in lower case"),
        "yes" | "on" => "write `true`".to_owned(),
        "no" | "off" => "write `false`, or \"off\" in quotes where a key takes that word".to_owned(),
        "none" | "null" | "nil" => "remove the key: what is not written has its default".to_owned(),
        _ if is_word => format!("write \"{word}\", in quotes"),
        _ => NO_TOML.to_owned(),
    }
}

/// A key or table that is there twice, with the first place.
fn duplicate(document: &Arc<Document>, second: &Location, span: Range<usize>, tree: &DeTable<'_>) -> ConfigProblem {
    let text = &document.text;
    let name = text.get(span.clone()).unwrap_or_default();
    let line = line_around(text, span.start);
    let header = header_of(&text[line.clone()]);
    let first = match header {
        // The recovered tree has the place of the second header only.
        Some(header) => headers_before(text, line.start).find(|(_, other)| *other == header).map(|(place, _)| place),
        None => {
            let begins_line = |at: usize| text[line_around(text, at).start..at].trim().is_empty();
            let mut keys = Vec::new();
            collect_keys(tree, name.trim_matches(['"', '\'']), &mut keys);
            let alike = keys
                .into_iter()
                .filter(|key| key.start < span.start && begins_line(key.start) == begins_line(span.start));
            alike.max_by_key(|key| key.start)
        }
    };
    let (what, help) = match header {
        Some(header) => (format!("the table `{header}`"), "write all its keys under one of the two"),
        None => (format!("the key `{name}`"), "remove one of the two"),
    };
    let first = first.map(|span| Location::Text { document: Arc::clone(document), span });
    let message = match &first {
        Some(first) => format!("{what} is written twice: here and {first}"),
        None => format!("{what} is written twice (duplicate key)"),
    };
    let problem = ConfigProblem::error(second, message, help);
    match first {
        Some(first) => problem.related(&first, "the first one"),
        None => problem,
    }
}

/// The places of every key of this name.
fn collect_keys(table: &DeTable<'_>, name: &str, places: &mut Vec<Range<usize>>) {
    for (key, value) in table.iter() {
        if key.get_ref() == name {
            places.push(key.span());
        }
        let items = match value.get_ref() {
            DeValue::Table(table) => {
                collect_keys(table, name, places);
                continue;
            }
            DeValue::Array(items) => items,
            _ => continue,
        };
        items.iter().filter_map(|item| item.get_ref().as_table()).for_each(|table| collect_keys(table, name, places));
    }
}

/// The lines before `end` that begin a table, without blanks and comments.
fn headers_before(text: &str, end: usize) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut start = 0;
    text[..end].split_inclusive('\n').filter_map(move |line| {
        let place = start..start + line.trim_end().len();
        start += line.len();
        Some((place, header_of(line)?))
    })
}

fn header_of(line: &str) -> Option<&str> {
    let line = line.trim();
    let end = line.rfind(']')?;
    (line.starts_with('[') && line[end + 1..].trim_start().chars().next().is_none_or(|next| next == '#'))
        .then(|| &line[..=end])
}

fn line_around(text: &str, at: usize) -> Range<usize> {
    let at = text.floor_char_boundary(at);
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    start..text[at..].find('\n').map_or(text.len(), |newline| at + newline)
}

/// A character that word processors, web pages and phones put in place of one that TOML knows.
struct OddCharacter {
    at: usize,
    letter: char,
    advice: String,
}

impl OddCharacter {
    fn in_line(text: &str, line: Range<usize>) -> Option<Self> {
        let start = line.start;
        text[line].char_indices().find_map(|(at, letter)| {
            let advice = match letter {
                '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => {
                    "write a plain space in its place".to_owned()
                }
                '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' => "remove it: it cannot be seen".to_owned(),
                '“' | '”' | '„' | '‟' | '«' | '»' | '″' => "write the quote \" in its place".to_owned(),
                '‘' | '’' | '‚' | '‛' | '′' => "write the quote ' in its place".to_owned(),
                '\u{2010}'..='\u{2015}' | '\u{2212}' => "write the dash - in its place".to_owned(),
                '\u{ff01}'..='\u{ff5e}' => {
                    let plain = char::from_u32(u32::from(letter) - 0xfee0).unwrap_or('?');
                    format!("write `{plain}` in its place")
                }
                _ => return None,
            };
            Some(Self { at: start + at, letter, advice })
        })
    }

    fn problem(self, document: &Arc<Document>) -> ConfigProblem {
        let location =
            Location::Text { document: Arc::clone(document), span: self.at..self.at + self.letter.len_utf8() };
        let code = u32::from(self.letter);
        let shown = match self.letter {
            '\u{a0}' => "a no-break space".to_owned(),
            letter if letter.is_whitespace() => "an unusual space".to_owned(),
            '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}' => "an invisible character".to_owned(),
            letter => format!("`{letter}`"),
        };
        ConfigProblem::error(&location, format!("TOML does not know {shown} (U+{code:04X}) here"), self.advice)
    }
}
