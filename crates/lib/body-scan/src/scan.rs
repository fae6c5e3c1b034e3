//! Finds members of the top level of a JSON object while its bytes come, without building a tree, and whether they are JSON.
//!
//! The plain parts of strings are jumped over by `memchr2`. What is taken for JSON is what llama-server takes (nlohmann's parser): a byte
//! order mark is skipped, a NUL ends the text, whatever follows it, no depth is too deep. An escaped key is decoded; of two members of
//! one name, the first counts.

use std::ops::Range;

use crate::BodyFault;
use crate::grammar::{Nesting, NumberPart, word};
use crate::text::{TextCheck, TextFault};

const BOM: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// A scanner of one body.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    state: State,
    /// Bytes before the present chunk.
    offset: usize,
    nesting: Nesting,
    text: TextCheck,
    /// The string is a key.
    is_key: bool,
    /// The string is the value of `model`.
    is_model: bool,
    model: Option<String>,
    is_object: bool,
    broken: Option<BodyFault>,
    /// Where the members stand, where that is asked for.
    members: Option<MemberPlaces>,
    started: usize,
    key: String,
    end: usize,
}

/// Where members of the top level stand. A member reaches from the quote of its key to the last byte of its value.
///
/// A body may have millions of them: those between two that are looked for are one range.
#[derive(Debug, Default)]
pub(crate) struct MemberPlaces {
    keys: Vec<String>,
    /// The first of those that are looked for.
    pub(crate) found: Option<Range<usize>>,
    /// Where the first member of all begins.
    pub(crate) first: Option<usize>,
    /// The others; of neighbours, from the first to the last one.
    pub(crate) others: Vec<Range<usize>>,
    /// The last member was one of the others.
    goes_on: bool,
}

impl MemberPlaces {
    fn add(&mut self, key: &str, range: Range<usize>) {
        self.first.get_or_insert(range.start);
        let is_found = self.keys.iter().any(|known| known == key);
        match self.others.last_mut().filter(|_| self.goes_on) {
            _ if is_found => drop(self.found.get_or_insert(range)),
            Some(last) => last.end = range.end,
            None => self.others.push(range),
        }
        self.goes_on = !is_found;
    }
}

/// The member of a whole body, from the quote of its key to the last byte of its value; of several of one name, the first.
pub fn member<'a>(body: &'a [u8], key: &str) -> Option<&'a [u8]> {
    let mut scanner = Scanner::of_members([key]);
    scanner.feed(body);
    body.get(scanner.members()?.0.found?)
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first byte.
    #[default]
    Start,
    /// So many bytes of the byte order mark were seen.
    Mark(usize),
    Value,
    /// A value, or the end of the array that has just begun.
    ValueOrEnd,
    Key,
    /// A key, or the end of the object that has just begun.
    KeyOrEnd,
    Colon,
    /// A comma, or the end of what is open.
    AfterValue,
    InString,
    Escape,
    Digits,
    InNumber(NumberPart),
    /// The rest of a word.
    InWord(&'static [u8]),
    /// Behind the value.
    Over,
    /// Behind a NUL there, or behind what is no JSON.
    Ignored,
}

impl Scanner {
    /// One that also remembers where members with these keys stand, and the others.
    pub(crate) fn of_members<'a>(keys: impl IntoIterator<Item = &'a str>) -> Self {
        let keys = keys.into_iter().map(str::to_owned).collect();
        Self { members: Some(MemberPlaces { keys, ..MemberPlaces::default() }), ..Self::default() }
    }

    /// The members of the top level, and the place of the brace that ends it; `None` where it is no whole object.
    pub(crate) fn members(self) -> Option<(MemberPlaces, usize)> {
        let is_whole = self.is_object && self.fault().is_none();
        self.members.filter(|_| is_whole).map(|members| (members, self.end))
    }

    /// The model, if the bytes so far name one.
    pub(crate) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Whether the bytes begin an object.
    pub(crate) const fn is_object(&self) -> bool {
        self.is_object
    }

    pub(crate) const fn broken(&self) -> Option<BodyFault> {
        self.broken
    }

    /// What is wrong with the body if it ends here.
    pub(crate) fn fault(&self) -> Option<BodyFault> {
        let cut = match self.state {
            State::Over | State::Ignored => None,
            State::InNumber(part) if part.is_whole() && self.nesting.depth() == 0 => None,
            _ if self.offset == 0 => Some(BodyFault::Empty),
            _ => Some(BodyFault::CutJson(self.offset)),
        };
        self.broken.or(cut)
    }

    /// Looks at the next bytes.
    pub(crate) fn feed(&mut self, chunk: &[u8]) {
        let mut at = 0;
        while at < chunk.len() {
            at = match self.state {
                State::InString => self.in_string(chunk, at),
                State::Ignored => break,
                _ => {
                    if self.step(chunk[at], at).is_none() {
                        self.breaks(BodyFault::NotJson(self.offset + at));
                    }
                    at + 1
                }
            };
        }
        self.offset += chunk.len();
    }

    fn breaks(&mut self, fault: BodyFault) {
        (self.broken, self.state) = (Some(fault), State::Ignored);
    }

    /// Takes a byte that is in no string; `None` where it is not allowed.
    fn step(&mut self, byte: u8, at: usize) -> Option<()> {
        let blank = matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
        self.state = match (self.state, byte) {
            (State::Start, byte) if byte == BOM[0] => State::Mark(1),
            (State::Start, _) => {
                self.state = State::Value;
                return self.step(byte, at);
            }
            (State::Mark(2), byte) if byte == BOM[2] => State::Value,
            (State::Mark(seen), byte) if BOM.get(seen) == Some(&byte) => State::Mark(seen + 1),
            (State::Escape, byte) => {
                if self.text.escape(byte).ok()? {
                    State::Digits
                } else {
                    State::InString
                }
            }
            (State::Digits, byte) => {
                if self.text.digit(byte).ok()? {
                    State::InString
                } else {
                    State::Digits
                }
            }
            (State::InNumber(part), byte) => match part.next(byte) {
                Some(next) => State::InNumber(next),
                // The byte behind it is read as such.
                None if part.is_whole() => {
                    self.value_ends(at);
                    return self.step(byte, at);
                }
                None => return None,
            },
            (State::InWord(rest), byte) => match rest.split_first() {
                Some((expected, [])) if *expected == byte => {
                    self.value_ends(at + 1);
                    self.state
                }
                Some((expected, rest)) if *expected == byte => State::InWord(rest),
                _ => return None,
            },
            (state, _) if blank => state,
            (State::Key | State::KeyOrEnd, b'"') => {
                self.is_key = true;
                let is_top = self.nesting.depth() == 1;
                self.text.begin(is_top);
                if is_top {
                    self.started = self.offset + at;
                }
                State::InString
            }
            (State::Colon, b':') => State::Value,
            (State::AfterValue, b',') => {
                if self.nesting.is_object() {
                    State::Key
                } else {
                    State::Value
                }
            }
            (State::KeyOrEnd, b'}') | (State::ValueOrEnd, b']') => self.closes(at),
            (State::AfterValue, b'}') if self.nesting.is_object() => self.closes(at),
            (State::AfterValue, b']') if !self.nesting.is_object() => self.closes(at),
            (State::Value | State::ValueOrEnd, byte) => return self.value_begins(byte),
            (State::Over, 0) => State::Ignored,
            _ => return None,
        };
        Some(())
    }

    fn value_begins(&mut self, byte: u8) -> Option<()> {
        let is_model = std::mem::take(&mut self.is_model);
        self.state = match byte {
            b'"' => {
                (self.is_key, self.is_model) = (false, is_model);
                self.text.begin(is_model);
                State::InString
            }
            b'{' => {
                self.is_object |= self.nesting.depth() == 0;
                self.nesting.open(true);
                State::KeyOrEnd
            }
            b'[' => {
                self.nesting.open(false);
                State::ValueOrEnd
            }
            byte => match NumberPart::begin(byte) {
                Some(part) => State::InNumber(part),
                None => State::InWord(word(byte)?),
            },
        };
        Some(())
    }

    /// A brace or a bracket at `at` ends what is open.
    fn closes(&mut self, at: usize) -> State {
        self.nesting.close();
        if self.nesting.depth() == 0 {
            self.end = self.offset + at;
        }
        self.value_ends(at + 1);
        self.state
    }

    /// A value ends before `end`.
    fn value_ends(&mut self, end: usize) {
        self.state = if self.nesting.depth() == 0 { State::Over } else { State::AfterValue };
        let range = self.started..self.offset + end;
        if let Some(members) = self.members.as_mut().filter(|_| self.is_object && self.nesting.depth() == 1) {
            members.add(&self.key, range);
        }
    }

    /// The rest of a string up to its end, an escape, or the end of the chunk.
    fn in_string(&mut self, chunk: &[u8], at: usize) -> usize {
        let rest = &chunk[at..];
        let found = memchr::memchr2(b'"', b'\\', rest);
        let (text, stop) = rest.split_at(found.unwrap_or(rest.len()));
        let end = at + text.len() + stop.len().min(1);
        let checked = self.text.plain(text).and_then(|()| match stop.first() {
            None => Ok(()),
            Some(b'\\') => self.text.plain_ends().map(|()| self.state = State::Escape),
            Some(_) => self.text.ends().map(|()| self.string_ends(end)),
        });
        match checked {
            Ok(()) => {}
            Err(TextFault::NotUtf8) => self.breaks(BodyFault::NotUtf8(self.offset + at)),
            Err(TextFault::NotAllowed) => self.breaks(BodyFault::NotJson(self.offset + at)),
        }
        end
    }

    fn string_ends(&mut self, end: usize) {
        if !self.is_key {
            if std::mem::take(&mut self.is_model) {
                self.model = self.text.decoded();
            }
            self.value_ends(end);
            return;
        }
        self.state = State::Colon;
        // Only the keys of the top level are kept.
        let key = self.text.decoded();
        self.is_model = self.model.is_none() && self.is_object && key.as_deref() == Some("model");
        if self.members.is_some() && self.nesting.depth() == 1 {
            self.key = key.unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value as Json;

    use super::*;
    use crate::LONGEST;

    fn scan<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> (Option<String>, Option<BodyFault>) {
        let mut scanner = Scanner::default();
        chunks.into_iter().for_each(|chunk| scanner.feed(chunk));
        (scanner.model().map(str::to_owned), scanner.fault())
    }

    const BODIES: &[&str] = &[
        r#"{"model":"a"}"#,
        r#" { "messages" : [ {"role":"user","content":"say \"model\": \\"} ] , "model" : "b" , "stream":true }"#,
        r#"{"x":{"model":"inner"},"y":[{"model":"inner"}],"model":"outer"}"#,
        r#"{"mod\u0065l":"esc\u0061ped \"q\" \ud83d\ude00"}"#,
        r#"{"n":-1.5e3,"t":true,"z":null ,"model":"after scalars"}"#,
        r#"{"model":5,"other":"x"}"#,
        r#"{"model":null}"#,
        r#"{"model":["x"],"other":"x"}"#,
        r#"{"model":{"x":"y"},"other":"x"}"#,
        r#"{"a":"\\","model":"behind a backslash"}"#,
        r#"{"a":["]","}","\"]"],"model":"behind brackets in strings"}"#,
        r#"{"a":[[],{},[{}],{"b":[1,2 , 3]}],"model":"behind nesting"}"#,
        r#"{"a":[0,-0,10,0.5,1E9,1e-9,2e+0,false],"b":{"c":null},"model":"behind numbers"}"#,
        r#"{}"#,
        r#"["model","x"]"#,
        r#"[{"model":"x"}]"#,
        r#""model""#,
        "17",
        " true ",
        "{\"model\":\"tab\",\r\n\t\"a\":1}",
        r#"{"model":"ünïcode 😀","a":"…\u00e9\b\f\n\r\t\/"}"#,
    ];

    #[test]
    fn the_scanner_finds_what_a_parser_finds_at_every_split() {
        for body in BODIES {
            let parsed: Json = serde_json::from_str(body).expect("valid");
            let expected = (parsed.get("model").and_then(Json::as_str).map(str::to_owned), None);
            for split in 0..=body.len() {
                let (first, second) = body.as_bytes().split_at(split);
                assert_eq!(scan([first, second]), expected, "{body} at {split}");
            }
            assert_eq!(scan(body.as_bytes().chunks(1)), expected, "{body} byte by byte");
        }
    }

    /// A parser refuses every beginning of an object, and nearly every change of one byte.
    #[test]
    fn the_scanner_refuses_what_a_parser_refuses() {
        let agrees = |bytes: &[u8]| {
            let parsed = serde_json::from_slice::<Json>(bytes);
            let found = scan([bytes]).1;
            assert_eq!(found.is_none(), parsed.is_ok(), "{:?}: {found:?}, {parsed:?}", String::from_utf8_lossy(bytes));
            assert_eq!(found, scan(bytes.chunks(1)).1.map(|fault| same_place(fault, found)), "{bytes:?}");
        };
        for body in BODIES {
            for length in 0..body.len() {
                agrees(&body.as_bytes()[..length]);
            }
            for (at, with) in
                (0..body.len()).flat_map(|at| b"\"\\{}[],:0-.e x\t\x07\x7f\xff\xc3\xed\xa0".map(|with| (at, with)))
            {
                let mut changed = body.as_bytes().to_vec();
                changed[at] = with;
                agrees(&changed);
                changed[at] = body.as_bytes()[at];
                changed.insert(at, with);
                agrees(&changed);
            }
        }
    }

    /// Of bytes that come one by one, the place is known more exactly.
    fn same_place(fault: BodyFault, found: Option<BodyFault>) -> BodyFault {
        match (fault, found) {
            (
                BodyFault::NotUtf8(_) | BodyFault::NotJson(_),
                Some(known @ (BodyFault::NotUtf8(_) | BodyFault::NotJson(_))),
            ) => known,
            (fault, _) => fault,
        }
    }

    #[test]
    fn the_first_of_two_models_counts_and_a_byte_order_mark_does_not() {
        assert_eq!(scan([br#"{"model":"a","model":"b"}"#.as_slice()]), (Some("a".to_owned()), None));
        let marked = [&BOM[..], br#" {"model":"a"}"#].concat();
        for split in 0..marked.len() {
            let (first, second) = marked.split_at(split);
            assert_eq!(scan([first, second]), (Some("a".to_owned()), None), "{split}");
        }
        let twice = [&BOM[..], &BOM[..], b"{}"].concat();
        assert_eq!(scan([&*twice]).1, Some(BodyFault::NotJson(3)));
    }

    /// Where b11434 and the builds before it agree, and serde_json does not.
    #[test]
    fn what_llama_server_takes_is_taken() {
        let deep = format!("{{\"x\":{}{},\"model\":\"a\"}}", "[".repeat(100_000), "]".repeat(100_000));
        for body in ["{\"model\":\"a\"}\0", "{\"model\":\"a\"} \0more", "{\"x\":1e999,\"model\":\"a\"}", &deep] {
            assert_eq!(scan([body.as_bytes()]), (Some("a".to_owned()), None), "{body:.40}");
        }
        for body in
            [r#"{"x":"\ud800","model":"a"}"#, r#"{"x":"\udc00"}"#, r#"{"x":"\ud800\ud800"}"#, r#"{"x":"\ud800\n"}"#]
        {
            assert!(matches!(scan([body.as_bytes()]).1, Some(BodyFault::NotJson(_))), "{body}");
        }
    }

    #[test]
    fn what_is_no_json_names_no_model_and_says_where_it_breaks() {
        for (body, fault) in [
            ("", BodyFault::Empty),
            (" ", BodyFault::CutJson(1)),
            ("{", BodyFault::CutJson(1)),
            ("{\"model\"", BodyFault::CutJson(8)),
            ("{\"model\":\"cut", BodyFault::CutJson(13)),
            ("model=a", BodyFault::NotJson(0)),
            ("\u{feff}", BodyFault::CutJson(3)),
            ("{{{{", BodyFault::NotJson(1)),
            ("}", BodyFault::NotJson(0)),
            ("{\"a\" 1, \"model\":\"x\"}", BodyFault::NotJson(5)),
            ("{]", BodyFault::NotJson(1)),
            ("{/**/}", BodyFault::NotJson(1)),
        ] {
            assert_eq!(scan([body.as_bytes()]), (None, Some(fault)), "{body}");
        }
        assert_eq!(scan([b"{\"model\":\"\xff\"}".as_slice()]), (None, Some(BodyFault::NotUtf8(10))));
        let behind = scan([br#"{"model":"a"}{"#.as_slice()]);
        assert_eq!(behind, (Some("a".to_owned()), Some(BodyFault::NotJson(13))));
    }

    #[test]
    fn a_name_that_is_too_long_is_none_and_no_part_of_one_is_taken_for_it() {
        let long = format!("{{\"model\":\"{}\"}}", "x".repeat(LONGEST + 1));
        assert_eq!(scan([long.as_bytes()]), (None, None));
        let key = format!("{{\"mo{}\\u0064el\":\"x\"}}", "y".repeat(LONGEST));
        assert_eq!(scan([key.as_bytes()]), (None, None));
    }
}
