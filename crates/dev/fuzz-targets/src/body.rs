//! The bodies of requests: however they are cut, the scanner finds what a slow reader of the whole text finds, and what is changed of
//! them is what a parser would have changed.

use http::HeaderMap;
use llama_warden_body_scan::{BodyFault, BodyPart, BodyScanner, edited};
use serde_json::{Map, Value};

use crate::{generator, pieces};

/// Longest name of a model and longest key that is looked at, as they are written.
const LONGEST: usize = 4096;

/// Looks through the input in pieces, and changes it.
pub(crate) fn check(input: &[u8]) {
    let mut generator = generator(input);
    let expected = Reference::read(input);
    for _ in 0..3 {
        let pieces = pieces(input, &mut generator);
        let mut scanner = BodyScanner::new(&HeaderMap::new());
        pieces.iter().for_each(|piece| scanner.feed(piece));
        assert_eq!(scanner.fault(), expected.fault);
        assert_eq!(scanner.model(), expected.model.as_deref());
        assert_eq!(scanner.is_object(), expected.is_object);
        let is_cut = matches!(expected.fault, Some(BodyFault::CutJson(_) | BodyFault::Empty));
        assert_eq!(scanner.broken(), expected.fault.filter(|_| !is_cut));
        check_edit(input, &pieces, expected.is_object && expected.fault.is_none());
    }
}

/// What is removed and set, and nothing else, is another one.
fn check_edit(input: &[u8], pieces: &[&[u8]], is_whole: bool) {
    let strip = ["a".to_owned(), "model".to_owned()];
    let set = Map::from_iter([("b".to_owned(), Value::from(1)), ("new\n".to_owned(), Value::from("x"))]);
    let parts = edited(pieces.iter().copied(), &strip, &set);
    assert_eq!(parts.is_some(), is_whole);
    let Some(parts) = parts else { return };
    let bytes = |part: BodyPart| match part {
        BodyPart::Kept(range) => input[range].to_vec(),
        BodyPart::New(text) => text.into_bytes(),
    };
    let changed: Vec<u8> = parts.into_iter().flat_map(bytes).collect();
    // A parser has a limit to depth and to numbers, and takes neither a byte order mark nor a NUL behind the text.
    let Ok(Value::Object(mut members)) = serde_json::from_slice(input) else { return };
    strip.iter().for_each(|key| drop(members.remove(key)));
    members.extend(set);
    assert_eq!(serde_json::from_slice::<Value>(&changed).expect("what is changed is JSON"), Value::Object(members));
}

/// A reader that takes one byte after the other of a whole text.
#[derive(Debug, Default)]
struct Reference<'a> {
    text: &'a [u8],
    at: usize,
    model: Option<String>,
    is_object: bool,
    fault: Option<BodyFault>,
}

/// Why it reads no further.
enum Stop {
    /// The next byte is not allowed.
    NotAllowed,
    /// There is none, and the text is not whole.
    Over { in_string: bool },
}

const OVER: Stop = Stop::Over { in_string: false };

impl<'a> Reference<'a> {
    fn read(input: &'a [u8]) -> Self {
        // A character that the end cuts is no fault of its own.
        let bad = std::str::from_utf8(input).err().filter(|error| error.error_len().is_some());
        let bad = bad.map(|error| error.valid_up_to());
        let mut this = Self { text: &input[..bad.unwrap_or(input.len())], ..Self::default() };
        this.fault = match (this.body(), bad) {
            (Ok(true), _) | (Ok(false), None) => None,
            (Err(Stop::NotAllowed), _) => Some(BodyFault::NotJson(this.at)),
            (Err(Stop::Over { in_string: true }), Some(bad)) => Some(BodyFault::NotUtf8(bad)),
            (Ok(false) | Err(_), Some(bad)) => Some(BodyFault::NotJson(bad)),
            (Err(_), None) if input.is_empty() => Some(BodyFault::Empty),
            (Err(_), None) => Some(BodyFault::CutJson(input.len())),
        };
        this
    }

    /// The whole body; whether a NUL ends it.
    fn body(&mut self) -> Result<bool, Stop> {
        if self.text.first() == Some(&0xEF) {
            let mark = [0xEF, 0xBB, 0xBF].into_iter().try_for_each(|byte| self.expect(byte));
            // What is none is a character that may not stand there.
            mark.inspect_err(|_| self.at = 0)?;
        }
        self.value()?;
        self.blanks();
        match self.text.get(self.at) {
            None => Ok(false),
            Some(0) => Ok(true),
            Some(_) => Err(Stop::NotAllowed),
        }
    }

    /// A value with all that is in it.
    fn value(&mut self) -> Result<(), Stop> {
        // Whether each open value is an object.
        let mut open = Vec::new();
        let mut names = false;
        loop {
            self.blanks();
            match self.peek()? {
                b'"' => {
                    let begin = self.at + 1;
                    let text = self.string()?;
                    if names && self.model.is_none() {
                        let cut = || format!("{}…", String::from_utf8_lossy(&self.text[begin..][..LONGEST]));
                        self.model = Some(text.unwrap_or_else(cut));
                    }
                }
                b'{' => {
                    self.at += 1;
                    self.is_object |= open.is_empty();
                    open.push(true);
                    self.blanks();
                    if self.peek()? != b'}' {
                        names = self.key(open.len())?;
                        continue;
                    }
                }
                b'[' => {
                    self.at += 1;
                    open.push(false);
                    self.blanks();
                    names = false;
                    if self.peek()? != b']' {
                        continue;
                    }
                }
                b't' => b"true".iter().try_for_each(|byte| self.expect(*byte))?,
                b'f' => b"false".iter().try_for_each(|byte| self.expect(*byte))?,
                b'n' => b"null".iter().try_for_each(|byte| self.expect(*byte))?,
                _ => self.number(open.is_empty())?,
            }
            names = false;
            loop {
                let Some(is_object) = open.last().copied() else { return Ok(()) };
                self.blanks();
                match self.peek()? {
                    b',' => {
                        self.at += 1;
                        if is_object {
                            self.blanks();
                            names = self.key(open.len())?;
                        }
                        break;
                    }
                    end if end == if is_object { b'}' } else { b']' } => {
                        self.at += 1;
                        open.pop();
                    }
                    _ => return Err(Stop::NotAllowed),
                }
            }
        }
    }

    /// A key and its colon; whether it is that of the model.
    fn key(&mut self, depth: usize) -> Result<bool, Stop> {
        let key = self.string()?;
        self.blanks();
        self.expect(b':')?;
        Ok(depth == 1 && self.is_object && key.as_deref() == Some("model"))
    }

    /// A string, unless it is too long.
    fn string(&mut self) -> Result<Option<String>, Stop> {
        let begin = self.at;
        self.expect(b'"')?;
        loop {
            match self.text.get(self.at) {
                None => return Err(Stop::Over { in_string: true }),
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(0..=0x1F) => return Err(Stop::NotAllowed),
                Some(_) => self.at += 1,
            }
        }
        self.at += 1;
        let written = &self.text[begin..self.at];
        Ok((written.len() - 2 <= LONGEST).then(|| serde_json::from_slice(written).expect("a string")))
    }

    /// An escape, and the second half of a pair.
    fn escape(&mut self) -> Result<(), Stop> {
        self.at += 1;
        if self.peek()? != b'u' {
            if !b"\"\\/bfnrt".contains(&self.peek()?) {
                return Err(Stop::NotAllowed);
            }
            self.at += 1;
            return Ok(());
        }
        self.at += 1;
        match self.digits(|code| !(0xDC00..=0xDFFF).contains(&code))? {
            0xD800..=0xDBFF => {
                self.expect(b'\\')?;
                self.expect(b'u')?;
                self.digits(|code| (0xDC00..=0xDFFF).contains(&code)).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Four digits; the last one is not allowed where the number is none that may stand here.
    fn digits(&mut self, may_be: impl Fn(u32) -> bool) -> Result<u32, Stop> {
        let mut code = 0;
        for number in 0..4 {
            let digit = char::from(self.peek()?).to_digit(16).ok_or(Stop::NotAllowed)?;
            code = code * 16 + digit;
            if number == 3 && !may_be(code) {
                return Err(Stop::NotAllowed);
            }
            self.at += 1;
        }
        Ok(code)
    }

    /// A number. At the end of the text it is whole only where nothing is open.
    fn number(&mut self, is_outermost: bool) -> Result<(), Stop> {
        if self.peek()? == b'-' {
            self.at += 1;
        }
        match self.peek()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.many_digits(),
            _ => return Err(Stop::NotAllowed),
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek()?, b'+' | b'-') {
                self.at += 1;
            }
            self.some_digits()?;
        }
        if self.at == self.text.len() && !is_outermost { Err(OVER) } else { Ok(()) }
    }

    fn some_digits(&mut self) -> Result<(), Stop> {
        if !self.peek()?.is_ascii_digit() {
            return Err(Stop::NotAllowed);
        }
        self.many_digits();
        Ok(())
    }

    fn many_digits(&mut self) {
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
    }

    fn blanks(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Result<u8, Stop> {
        self.text.get(self.at).copied().ok_or(OVER)
    }

    fn expect(&mut self, byte: u8) -> Result<(), Stop> {
        if self.peek()? != byte {
            return Err(Stop::NotAllowed);
        }
        self.at += 1;
        Ok(())
    }
}
