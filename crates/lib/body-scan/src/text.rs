//! The text of a JSON string while its bytes come: whether it is one, and its beginning where that is wanted.

use crate::LONGEST;

/// The values of hexadecimal digits; of any other byte, one that no digit has.
const HEXADECIMAL: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut digit = 0;
    while digit < 16 {
        let (lower, upper) = (b"0123456789abcdef"[digit as usize], b"0123456789ABCDEF"[digit as usize]);
        (values[lower as usize], values[upper as usize]) = (digit, digit);
        digit += 1;
    }
    values
};

/// Whether the byte behind a backslash is all that follows it.
const fn is_short_escape(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't')
}

/// One string at a time.
#[derive(Debug, Default)]
pub(crate) struct TextCheck {
    /// Hexadecimal digits of an escape that are still to come, and their value so far.
    digits: u8,
    code: u16,
    /// The escape before was the first half of a pair.
    is_paired: bool,
    /// What is between the quotes, as it is written, where it is kept.
    kept: Vec<u8>,
    keeps: bool,
    is_too_long: bool,
}

impl TextCheck {
    /// Begins a string. `keeps` says whether [`Self::decoded`] is asked at its end.
    pub(crate) fn begin(&mut self, keeps: bool) {
        self.kept.clear();
        (self.keeps, self.is_too_long) = (keeps, false);
    }

    /// Whether the second half of a pair has to follow.
    pub(crate) const fn is_paired(&self) -> bool {
        self.is_paired
    }

    /// The byte behind a backslash; whether digits follow. `None` of no escape.
    pub(crate) fn escape(&mut self, byte: u8) -> Option<bool> {
        match byte {
            b'u' => (self.digits, self.code) = (4, 0),
            byte if is_short_escape(byte) && !self.is_paired => {}
            _ => return None,
        }
        Some(byte == b'u')
    }

    /// A digit of an escape; whether it was the last one. `None` of no digit, or of half a pair.
    pub(crate) fn digit(&mut self, byte: u8) -> Option<bool> {
        let digit = char::from(byte).to_digit(16)?;
        self.code = self.code << 4 | u16::try_from(digit).unwrap_or_default();
        self.digits -= 1;
        if self.digits > 0 {
            return Some(false);
        }
        self.is_paired = self.pairs_with(self.code)?;
        Some(true)
    }

    /// Takes a whole escape, of which this is what follows its backslash, and gives the length of that; `None`, and takes nothing, where it is
    /// none or is cut.
    #[inline]
    pub(crate) fn whole_escape(&mut self, rest: &[u8]) -> Option<usize> {
        match rest.first()? {
            b'u' => self.escaped_code(*rest[1..].first_chunk()?).map(|()| 5),
            byte if is_short_escape(*byte) && !self.is_paired => Some(1),
            _ => None,
        }
    }

    fn escaped_code(&mut self, written: [u8; 4]) -> Option<()> {
        let digit = |code: Option<u16>, byte: u8| {
            let digit = HEXADECIMAL[usize::from(byte)];
            (digit < 16).then_some(code? << 4 | u16::from(digit))
        };
        self.is_paired = self.pairs_with(written.into_iter().fold(Some(0), digit)?)?;
        Some(())
    }

    /// Whether the second half of a pair has to follow this code; `None` where it may not stand here. A character beyond 16 bits is
    /// written as two escapes, and neither half stands alone.
    const fn pairs_with(&self, code: u16) -> Option<bool> {
        match (code, self.is_paired) {
            (0xD800..=0xDBFF, false) => Some(true),
            (0xDC00..=0xDFFF, true) => Some(false),
            (0xD800..=0xDFFF, _) | (_, true) => None,
            _ => Some(false),
        }
    }

    /// Whether it is this one, which has no escape.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.keeps
            && !self.is_too_long
            && (self.kept == text.as_bytes() || self.kept.contains(&b'\\') && self.decoded().as_deref() == Some(text))
    }

    /// The string, unless it is too long for what is kept.
    pub(crate) fn decoded(&self) -> Option<String> {
        if !self.keeps || self.is_too_long {
            return None;
        }
        if !self.kept.contains(&b'\\') {
            return std::str::from_utf8(&self.kept).ok().map(str::to_owned);
        }
        serde_json::from_slice(&[b"\"", &*self.kept, b"\""].concat()).ok()
    }

    /// The string as a name. One that is too long is cut, and longer than every name that is taken.
    pub(crate) fn name(&self) -> Option<String> {
        if self.is_too_long { Some(cut(&self.kept)) } else { self.decoded() }
    }

    /// Takes what is written in the string, escapes and all.
    #[inline]
    pub(crate) fn keep(&mut self, bytes: &[u8]) {
        if !self.keeps || self.is_too_long {
            return;
        }
        let room = LONGEST - self.kept.len();
        self.is_too_long = bytes.len() > room;
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// The name of which this is the longest beginning that is kept.
pub(crate) fn cut(begun: &[u8]) -> String {
    format!("{}…", String::from_utf8_lossy(begun))
}
