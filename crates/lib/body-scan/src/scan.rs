//! Finds members of the top level of a JSON object while its bytes come, without building a tree.
//!
//! Strings are jumped over by `memchr2`. What is no valid JSON is not reported here: llama-server does that. A byte order mark is
//! skipped, as llama-server skips it; an escaped key is decoded; of two members of one name, the first counts.

use std::ops::Range;

/// Longest value that is kept: a model's name.
const LONGEST: usize = 4096;

const BOM: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// A scanner of one body.
#[derive(Debug, Default)]
pub struct Scanner {
    state: State,
    /// Bytes before the present chunk.
    offset: usize,
    /// Depth of the value that is skipped.
    depth: u32,
    /// The text of the key, or of the value of `model`, between its quotes.
    text: Vec<u8>,
    is_model: bool,
    model: Option<String>,
    is_object: bool,
    /// Where the members stand, where that is asked for.
    members: Option<Vec<Member>>,
    started: usize,
    key: String,
    end: usize,
}

/// A member of the top level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) key: String,
    /// From the quote of its key to the last byte of its value.
    pub(crate) range: Range<usize>,
}

/// The member of a whole body, from the quote of its key to the last byte of its value; of several of one name, the first.
pub fn member<'a>(body: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let mut scanner = Scanner::of_members();
    scanner.feed(body);
    let (members, _) = scanner.members()?;
    members.into_iter().find(|member| member.key == key).and_then(|member| body.get(member.range))
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the object; so many bytes of the byte order mark were seen.
    #[default]
    Start,
    Mark(usize),
    /// A key, or the end of the object.
    BeforeKey,
    InKey,
    InKeyEscape,
    BeforeColon,
    BeforeValue,
    /// A string at the top level.
    InText,
    InTextEscape,
    /// A number, or a word.
    InScalar,
    /// Within an object or an array.
    Nested,
    NestedString,
    NestedEscape,
    AfterValue,
    /// Behind the object, or in what is none.
    Over,
}

impl Scanner {
    /// One that also remembers where the members stand.
    pub(crate) fn of_members() -> Self {
        Self { members: Some(Vec::new()), ..Self::default() }
    }

    /// The members of the top level, and the place of the brace that ends it; `None` where it does not end.
    pub(crate) fn members(self) -> Option<(Vec<Member>, usize)> {
        let is_whole = self.is_object && self.state == State::Over && self.end > 0;
        self.members.filter(|_| is_whole).map(|members| (members, self.end))
    }

    /// The model, if the bytes so far name one.
    pub fn model(&self) -> Option<String> {
        self.model.clone()
    }

    /// Whether the bytes begin an object.
    pub const fn is_object(&self) -> bool {
        self.is_object
    }

    /// Looks at the next bytes.
    pub fn feed(&mut self, chunk: &[u8]) {
        let mut at = 0;
        while at < chunk.len() {
            at = self.step(chunk, at);
        }
        self.offset += chunk.len();
    }

    /// Takes the byte at `at`, or the rest of a string, and gives the place behind it.
    fn step(&mut self, chunk: &[u8], at: usize) -> usize {
        match self.state {
            State::InKey | State::InText | State::NestedString => return self.in_string(chunk, at),
            State::Over => return chunk.len(),
            State::Nested => return self.nested(chunk, at),
            _ => {}
        }
        let byte = chunk[at];
        let blank = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        match (self.state, byte) {
            (State::Start, byte) if byte == BOM[0] && self.offset + at == 0 => self.state = State::Mark(1),
            (State::Mark(seen), byte) => {
                self.state = match BOM.get(seen) {
                    Some(expected) if *expected == byte && seen == 2 => State::Start,
                    Some(expected) if *expected == byte => State::Mark(seen + 1),
                    _ => State::Over,
                };
            }
            (State::Start, b'{') => (self.state, self.is_object) = (State::BeforeKey, true),
            (State::BeforeKey, b'"') => {
                self.state = State::InKey;
                self.started = self.offset + at;
                self.text.clear();
            }
            (State::BeforeKey | State::AfterValue, b',') => self.state = State::BeforeKey,
            (State::BeforeKey | State::AfterValue, b'}') => self.finish(at),
            (State::InKeyEscape, byte) => self.escaped(byte, State::InKey),
            (State::InTextEscape, byte) => self.escaped(byte, State::InText),
            (State::NestedEscape, _) => self.state = State::NestedString,
            (State::BeforeColon, b':') => self.state = State::BeforeValue,
            (State::BeforeValue, b'"') => {
                self.state = State::InText;
                self.text.clear();
            }
            (State::BeforeValue, b'{' | b'[') => (self.state, self.depth) = (State::Nested, 1),
            (State::BeforeValue, _) if !blank => self.state = State::InScalar,
            (State::InScalar, b',') => {
                self.member_ends(at);
                self.state = State::BeforeKey;
            }
            (State::InScalar, b'}') => {
                self.member_ends(at);
                self.finish(at);
            }
            (State::InScalar, _) if blank => {
                self.member_ends(at);
                self.state = State::AfterValue;
            }
            (State::InScalar, _) => {}
            _ if blank => {}
            _ => self.state = State::Over,
        }
        at + 1
    }

    /// The rest of a string up to its end, an escape, or the end of the chunk.
    fn in_string(&mut self, chunk: &[u8], at: usize) -> usize {
        let rest = &chunk[at..];
        let found = memchr::memchr2(b'"', b'\\', rest);
        let (text, stop) = rest.split_at(found.unwrap_or(rest.len()));
        let keeps = self.state == State::InKey || self.state == State::InText && self.is_model;
        if keeps && self.text.len() + text.len() <= LONGEST {
            self.text.extend_from_slice(text);
        }
        let Some(byte) = stop.first() else { return chunk.len() };
        let end = at + text.len() + 1;
        self.state = match (self.state, byte) {
            (State::InKey, b'"') => self.key_ends(),
            (State::InText, b'"') => self.text_ends(end),
            (State::NestedString, b'"') => State::Nested,
            (State::InKey, _) => State::InKeyEscape,
            (State::InText, _) => State::InTextEscape,
            _ => State::NestedEscape,
        };
        end
    }

    fn nested(&mut self, chunk: &[u8], mut at: usize) -> usize {
        while let Some(byte) = chunk.get(at) {
            at += 1;
            match byte {
                b'"' => {
                    self.state = State::NestedString;
                    return at;
                }
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.member_ends(at);
                        self.state = State::AfterValue;
                        return at;
                    }
                }
                _ => {}
            }
        }
        at
    }

    fn escaped(&mut self, byte: u8, back: State) {
        if self.text.len() + 2 <= LONGEST {
            self.text.extend([b'\\', byte]);
        }
        self.state = back;
    }

    fn key_ends(&mut self) -> State {
        let key = decoded(&self.text);
        self.is_model = self.model.is_none() && key.as_deref() == Some("model");
        if self.members.is_some() {
            self.key = key.unwrap_or_default();
        }
        State::BeforeColon
    }

    fn text_ends(&mut self, end: usize) -> State {
        if std::mem::take(&mut self.is_model) {
            self.model = decoded(&self.text);
        }
        self.member_ends(end);
        State::AfterValue
    }

    fn member_ends(&mut self, end: usize) {
        let range = self.started..self.offset + end;
        if let Some(members) = &mut self.members {
            members.push(Member { key: std::mem::take(&mut self.key), range });
        }
    }

    fn finish(&mut self, at: usize) {
        self.end = self.offset + at;
        self.state = State::Over;
    }
}

/// The text of a JSON string, from between its quotes.
fn decoded(raw: &[u8]) -> Option<String> {
    if !raw.contains(&b'\\') {
        return std::str::from_utf8(raw).ok().map(str::to_owned);
    }
    let quoted = [b"\"", raw, b"\""].concat();
    serde_json::from_slice(&quoted).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;

    fn scan<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
        let mut scanner = Scanner::default();
        chunks.into_iter().for_each(|chunk| scanner.feed(chunk));
        scanner.model()
    }

    const BODIES: &[&str] = &[
        r#"{"model":"a"}"#,
        r#" { "messages" : [ {"role":"user","content":"say \"model\": \\"} ] , "model" : "b" , "stream":true }"#,
        r#"{"x":{"model":"inner"},"y":[{"model":"inner"}],"model":"outer"}"#,
        r#"{"mod\u0065l":"esc\u0061ped \"q\" \ud83d\ude00"}"#,
        r#"{"n":-1.5e3,"t":true,"z":null ,"model":"after scalars"}"#,
        r#"{"model":5,"other":"x"}"#,
        r#"{"model":null}"#,
        r#"{"a":"\\","model":"behind a backslash"}"#,
        r#"{"a":["]","}","\"]"],"model":"behind brackets in strings"}"#,
        r#"{}"#,
        r#"["model","x"]"#,
        r#""model""#,
        "{\"model\":\"tab\",\r\n\t\"a\":1}",
        r#"{"model":"ünïcode","a":"…"}"#,
    ];

    #[test]
    fn the_scanner_finds_what_a_parser_finds_at_every_split() {
        for body in BODIES {
            let parsed: Json = serde_json::from_str(body).expect("valid");
            let expected = parsed.get("model").and_then(Json::as_str).map(str::to_owned);
            for split in 0..=body.len() {
                let (first, second) = body.as_bytes().split_at(split);
                assert_eq!(scan([first, second]), expected, "{body} at {split}");
            }
            assert_eq!(scan(body.as_bytes().chunks(1)), expected, "{body} byte by byte");
        }
    }

    #[test]
    fn the_first_of_two_models_counts_and_a_byte_order_mark_does_not() {
        assert_eq!(scan([br#"{"model":"a","model":"b"}"#.as_slice()]).as_deref(), Some("a"));
        let marked = [&BOM[..], br#"{"model":"a"}"#].concat();
        for split in 0..marked.len() {
            let (first, second) = marked.split_at(split);
            assert_eq!(scan([first, second]).as_deref(), Some("a"), "{split}");
        }
    }

    #[test]
    fn what_is_no_json_names_no_model_and_does_no_harm() {
        for body in [
            "",
            "{",
            "{\"model\"",
            "{\"model\":\"cut",
            "model=a",
            "\u{feff}",
            "{{{{",
            "}",
            "{\"a\" 1, \"model\":\"x\"}",
            "{]",
        ] {
            assert_eq!(scan([body.as_bytes()]), None, "{body}");
        }
        assert_eq!(scan([b"{\"model\":\"\xff\"}".as_slice()]), None, "no UTF-8");
        let long = format!("{{\"model\":\"{}\"}}", "x".repeat(LONGEST + 1));
        assert_ne!(scan([long.as_bytes()]).map(|model| model.len()), Some(LONGEST + 1));
    }
}
