//! Finds members of the top level of a JSON object while its bytes come, without building a tree, and whether they are JSON.
//!
//! What is taken for JSON is what llama-server takes (nlohmann's parser): a byte order mark is skipped, a NUL ends the text, whatever
//! follows it, no depth is too deep. An escaped key is decoded; of two members of one name, the first counts.
//!
//! A chunk is looked through twice, each time many bytes at once: whether it is UTF-8, and then for its JSON. In strings, only the bytes
//! that end plain text are gone to; between them, each byte is a step of a table.

use std::ops::Range;

use crate::BodyFault;
use crate::blocks::Specials;
use crate::grammar::{Expected, JsonStep, Nesting, NumberPart, word};
use crate::text::TextCheck;
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
    Between(Expected),
    InString,
    Escape,
    Digits,
    InNumber(NumberPart),
    /// The rest of a word, its next byte in the lowest place.
    InWord(u32),
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
            State::Between(Expected::Nothing) | State::Ignored => None,
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
        let mut specials = Specials::of(text);
        let mut at = 0;
        while at < text.len() {
            at = match self.state {
                State::Between(expected) => self.between(text, at, expected, &mut specials),
                State::InString => self.in_string(text, at, &mut specials),
                State::InNumber(part) => self.in_number(text, at, part),
                State::InWord(rest) => self.in_word(text, at, rest),
                State::Ignored => break,
                state => match self.step(state, text[at]) {
                    Some((next, length)) => {
                        self.state = next;
                        at + length
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

    /// What a byte leads to at the beginning of the body and in an escape that a chunk cuts, and whether it is taken; `None` where it is not
    /// allowed.
    fn step(&mut self, state: State, byte: u8) -> Option<(State, usize)> {
        let next = match state {
            State::Start if byte == BOM[0] => State::Mark(1),
            State::Start => return Some((State::Between(Expected::Value), 0)),
            State::Mark(1) if byte == BOM[1] => State::Mark(2),
            State::Mark(2) if byte == BOM[2] => State::Between(Expected::Value),
            State::Escape => {
                if self.text.escape(byte)? {
                    State::Digits
                } else {
                    State::InString
                }
            }
            State::Digits => {
                if self.text.digit(byte)? {
                    State::InString
                } else {
                    State::Digits
                }
            }
            _ => return None,
        };
        if matches!(state, State::Escape | State::Digits) {
            self.text.keep(&[byte]);
        }
        Some((next, 1))
    }

    /// What comes between strings, up to the end of the chunk or what it cuts; the place behind it.
    fn between(&mut self, text: &[u8], begin: usize, mut expected: Expected, specials: &mut Specials<'_>) -> usize {
        let mut at = begin;
        while let Some(byte) = text.get(at) {
            at += 1;
            expected = match JsonStep::of(expected, *byte) {
                JsonStep::Blank => continue,
                JsonStep::Leads(next) => next,
                step @ (JsonStep::BeginsKey | JsonStep::BeginsText) => {
                    self.string_begins(step == JsonStep::BeginsKey, at - 1);
                    at = self.in_string(text, at, specials);
                    let State::Between(next) = self.state else { return at };
                    next
                }
                JsonStep::BeginsObject => {
                    self.is_model = false;
                    self.is_object |= self.nesting.depth() == 0;
                    self.nesting.open(true);
                    Expected::KeyOrEnd
                }
                JsonStep::BeginsArray => {
                    self.is_model = false;
                    self.nesting.open(false);
                    Expected::ValueOrEnd
                }
                JsonStep::BeginsNumber | JsonStep::BeginsWord => {
                    self.is_model = false;
                    at = match (NumberPart::begin(*byte), word(*byte)) {
                        (Some(part), _) => self.in_number(text, at, part),
                        (None, rest) => self.in_word(text, at, rest.unwrap_or_default()),
                    };
                    let State::Between(next) = self.state else { return at };
                    next
                }
                JsonStep::Ends => {
                    self.nesting.close();
                    if self.nesting.depth() == 0 {
                        self.end = self.offset + at - 1;
                    }
                    self.value_ends(at)
                }
                JsonStep::EndsText => {
                    self.state = State::Ignored;
                    return at;
                }
                JsonStep::IsWrong => {
                    self.breaks(BodyFault::NotJson(self.offset + at - 1));
                    return at;
                }
            };
        }
        self.state = State::Between(expected);
        at
    }

    /// Its quote is at this place.
    fn string_begins(&mut self, is_key: bool, at: usize) {
        self.is_key = is_key;
        if !is_key {
            return self.text.begin(self.is_model);
        }
        let is_top = self.nesting.depth() == 1;
        self.text.begin(is_top);
        if is_top {
            self.started = self.offset + at;
        }
    }

    /// A value ends before `end`.
    fn value_ends(&mut self, end: usize) -> Expected {
        let depth = self.nesting.depth();
        if let Some(members) = self.members.as_mut().filter(|_| self.is_object && depth == 1) {
            members.add(&self.key, self.started..self.offset + end);
        }
        match depth {
            0 => Expected::Nothing,
            _ if self.nesting.is_object() => Expected::AfterMember,
            _ => Expected::AfterElement,
        }
    }

    /// The rest of a number; the place behind it.
    fn in_number(&mut self, text: &[u8], begin: usize, mut part: NumberPart) -> usize {
        let mut at = begin;
        loop {
            if part.goes_on() {
                at += text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            }
            let Some(byte) = text.get(at) else {
                self.state = State::InNumber(part);
                return at;
            };
            match part.next(*byte) {
                Some(next) => part = next,
                None => {
                    match part.is_whole() {
                        true => self.state = State::Between(self.value_ends(at)),
                        false => self.breaks(BodyFault::NotJson(self.offset + at)),
                    }
                    return at;
                }
            }
            at += 1;
        }
    }

    /// The rest of a word; the place behind it.
    fn in_word(&mut self, text: &[u8], begin: usize, mut rest: u32) -> usize {
        let mut at = begin;
        while let Some(byte) = text.get(at) {
            if rest & 0xff != u32::from(*byte) {
                self.breaks(BodyFault::NotJson(self.offset + at));
                return at;
            }
            (at, rest) = (at + 1, rest >> 8);
            if rest == 0 {
                self.state = State::Between(self.value_ends(at));
                return at;
            }
        }
        self.state = State::InWord(rest);
        at
    }

    /// The rest of a string up to its end, an escape that the chunk cuts, or the end of the chunk; the place behind it.
    #[inline]
    fn in_string(&mut self, text: &[u8], begin: usize, specials: &mut Specials<'_>) -> usize {
        let mut at = begin;
        loop {
            let stop = specials.next(at);
            if self.text.is_paired() && stop > at {
                self.breaks(BodyFault::NotJson(self.offset + at));
                return at;
            }
            match text.get(stop) {
                None => {
                    self.text.keep(&text[begin..]);
                    self.state = State::InString;
                    return stop;
                }
                Some(b'\\') => {
                    if let Some(length) = self.text.whole_escape(&text[stop + 1..]) {
                        at = stop + 1 + length;
                        continue;
                    }
                    // What is wrong with it is found byte by byte.
                    self.text.keep(&text[begin..=stop]);
                    self.state = State::Escape;
                }
                Some(b'"') if !self.text.is_paired() => {
                    self.text.keep(&text[begin..stop]);
                    self.state = State::Between(self.string_ends(stop + 1));
                }
                Some(_) => self.breaks(BodyFault::NotJson(self.offset + stop)),
            }
            return stop + 1;
        }
    }

    fn string_ends(&mut self, end: usize) -> Expected {
        if !self.is_key {
            if std::mem::take(&mut self.is_model) {
                self.model = self.text.name();
            }
            return self.value_ends(end);
        }
        // Only the keys of the top level are kept.
        self.is_model = self.model.is_none() && self.is_object && self.text.is("model");
        if self.members.is_some() && self.nesting.depth() == 1 {
            self.key = self.text.decoded().unwrap_or_default();
        }
        Expected::Colon
    }
}

#[cfg(test)]
mod tests;
