//! Finds members of the top level of a JSON object while its bytes come, without building a tree, and whether they are JSON.
//!
//! What is taken for JSON is what llama-server takes (nlohmann's parser): a byte order mark is skipped, a NUL ends the text, whatever
//! follows it, no depth is too deep. An escaped key is decoded; of two members of one name, the first counts.
//!
//! A chunk is looked through twice, each time many bytes at once: whether it is UTF-8, and then for its JSON. Both together are several
//! times faster than one pass that calls the one for each string of the other.

use std::ops::Range;

use crate::BodyFault;
use crate::grammar::{Nesting, NumberPart, word};
use crate::text::{TextCheck, is_short_escape, plain_length};
use crate::utf8::Utf8Check;

const BOM: [u8; 3] = [0xEF, 0xBB, 0xBF];

/// A scanner of one body.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    state: State,
    /// Bytes before the present chunk.
    offset: usize,
    nesting: Nesting,
    utf8: Utf8Check,
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
    Mark(u8),
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
    /// The rest of a word, its next byte in the lowest place.
    InWord(u32),
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
        if self.state != State::Ignored {
            let before = self.utf8.cut_length();
            match self.utf8.feed(chunk) {
                Ok(()) => self.read(chunk),
                Err(valid) => {
                    self.read(&chunk[..valid]);
                    self.breaks_as_text(self.offset + valid - if valid == 0 { before } else { 0 });
                }
            }
        }
        self.offset += chunk.len();
    }

    /// Takes bytes that are UTF-8, but for a character that their end cuts.
    fn read(&mut self, text: &[u8]) {
        let mut at = 0;
        while at < text.len() {
            at = match self.state {
                State::InString => self.in_string(text, at),
                State::InNumber(part) => self.in_number(text, at, part),
                State::Start if text[at] == BOM[0] => {
                    self.state = State::Mark(1);
                    at + 1
                }
                State::Start => {
                    self.state = State::Value;
                    at
                }
                State::Ignored => break,
                state => match self.step(state, text[at], at) {
                    Some(next) => {
                        self.state = next;
                        at + 1
                    }
                    // What begins like a mark and is none is a character that may not stand there.
                    None if matches!(state, State::Mark(_)) => return self.breaks(BodyFault::NotJson(0)),
                    None => return self.breaks(BodyFault::NotJson(self.offset + at)),
                },
            };
        }
    }

    /// Bytes that are no UTF-8 follow, unless the text has ended before them.
    const fn breaks_as_text(&mut self, at: usize) {
        match self.state {
            State::Ignored => {}
            State::InString if !self.text.is_paired() => self.breaks(BodyFault::NotUtf8(at)),
            _ => self.breaks(BodyFault::NotJson(at)),
        }
    }

    const fn breaks(&mut self, fault: BodyFault) {
        (self.broken, self.state) = (Some(fault), State::Ignored);
    }

    /// What a byte leads to that is in no string and no number; `None` where it is not allowed.
    fn step(&mut self, state: State, byte: u8, at: usize) -> Option<State> {
        Some(match (state, byte) {
            (
                State::Value
                | State::ValueOrEnd
                | State::Key
                | State::KeyOrEnd
                | State::Colon
                | State::AfterValue
                | State::Over,
                b' ' | b'\t' | b'\n' | b'\r',
            ) => state,
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
            (State::AfterValue, b',') if self.nesting.is_object() => State::Key,
            (State::AfterValue, b',') => State::Value,
            (State::KeyOrEnd, b'}') | (State::ValueOrEnd, b']') => self.closes(at),
            (State::AfterValue, b'}') if self.nesting.is_object() => self.closes(at),
            (State::AfterValue, b']') if !self.nesting.is_object() => self.closes(at),
            (State::Value | State::ValueOrEnd, byte) => self.value_begins(byte)?,
            (State::InWord(rest), byte) if rest & 0xff == u32::from(byte) => match rest >> 8 {
                0 => self.value_ends(at + 1),
                rest => State::InWord(rest),
            },
            (State::Escape, byte) => {
                if self.text.escape(byte)? {
                    State::Digits
                } else {
                    State::InString
                }
            }
            (State::Digits, byte) => {
                if self.text.digit(byte)? {
                    State::InString
                } else {
                    State::Digits
                }
            }
            (State::Mark(2), byte) if byte == BOM[2] => State::Value,
            (State::Mark(1), byte) if byte == BOM[1] => State::Mark(2),
            (State::Over, 0) => State::Ignored,
            _ => return None,
        })
    }

    fn value_begins(&mut self, byte: u8) -> Option<State> {
        let is_model = std::mem::take(&mut self.is_model);
        Some(match byte {
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
        })
    }

    /// A brace or a bracket at `at` ends what is open.
    fn closes(&mut self, at: usize) -> State {
        self.nesting.close();
        if self.nesting.depth() == 0 {
            self.end = self.offset + at;
        }
        self.value_ends(at + 1)
    }

    /// A value ends before `end`.
    fn value_ends(&mut self, end: usize) -> State {
        let depth = self.nesting.depth();
        if let Some(members) = self.members.as_mut().filter(|_| self.is_object && depth == 1) {
            members.add(&self.key, self.started..self.offset + end);
        }
        if depth == 0 { State::Over } else { State::AfterValue }
    }

    /// The rest of a number; the place behind it.
    fn in_number(&mut self, text: &[u8], begin: usize, mut part: NumberPart) -> usize {
        let mut at = begin;
        while let Some(byte) = text.get(at) {
            match part.next(*byte) {
                Some(next) => part = next,
                None => {
                    match part.is_whole() {
                        true => self.state = self.value_ends(at),
                        false => self.breaks(BodyFault::NotJson(self.offset + at)),
                    }
                    return at;
                }
            }
            at += 1;
        }
        self.state = State::InNumber(part);
        at
    }

    /// The rest of a string up to its end, an escape that the chunk cuts, or the end of the chunk; the place behind it.
    fn in_string(&mut self, chunk: &[u8], mut at: usize) -> usize {
        loop {
            let stop = at + plain_length(&chunk[at..]);
            if self.text.plain(&chunk[at..stop]).is_none() {
                self.breaks(BodyFault::NotJson(self.offset + at));
                return at;
            }
            let Some(byte) = chunk.get(stop) else { return stop };
            if *byte == b'\\'
                && let Some(length) = self.escape(&chunk[stop + 1..])
            {
                at = stop + 1 + length;
                continue;
            }
            match byte {
                b'\\' => self.state = State::Escape,
                b'"' if !self.text.is_paired() => self.state = self.string_ends(stop + 1),
                _ => self.breaks(BodyFault::NotJson(self.offset + stop)),
            }
            return stop + 1;
        }
    }

    /// Takes what is behind a backslash where all of it is there, and gives its length. What is wrong is found byte by byte.
    fn escape(&mut self, rest: &[u8]) -> Option<usize> {
        match rest.first()? {
            b'u' => self.text.escaped_code(*rest[1..].first_chunk()?).map(|()| 5),
            byte if is_short_escape(*byte) => self.text.escape(*byte).map(|_| 1),
            _ => None,
        }
    }

    fn string_ends(&mut self, end: usize) -> State {
        if !self.is_key {
            if std::mem::take(&mut self.is_model) {
                self.model = self.text.decoded();
            }
            return self.value_ends(end);
        }
        // Only the keys of the top level are kept.
        self.is_model = self.model.is_none() && self.is_object && self.text.is("model");
        if self.members.is_some() && self.nesting.depth() == 1 {
            self.key = self.text.decoded().unwrap_or_default();
        }
        State::Colon
    }
}

#[cfg(test)]
mod tests;
