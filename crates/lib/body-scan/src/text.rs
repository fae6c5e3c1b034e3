//! The text of a JSON string while its bytes come: whether it is one, and its beginning where that is wanted.

use crate::LONGEST;

/// What the bytes of a string are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextFault {
    NotUtf8,
    /// A control character, or an escape that is none.
    NotAllowed,
}

/// One string at a time.
#[derive(Debug, Default)]
pub(crate) struct TextCheck {
    /// The beginning of a character that the chunk before has cut.
    cut: [u8; 4],
    cut_length: usize,
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

/// Whether there is a control character. Eight bytes are looked at in one number, since a build for size looks at each one by itself
/// otherwise: one that is below a space borrows from its highest bit, which it has not.
fn has_control(text: &[u8]) -> bool {
    const SPACES: u64 = u64::from_ne_bytes([b' '; 8]);
    const HIGHEST: u64 = u64::from_ne_bytes([0x80; 8]);
    let (eights, rest) = text.as_chunks::<8>();
    let found = eights.iter().fold(0, |found, eight| {
        let eight = u64::from_ne_bytes(*eight);
        found | (eight.wrapping_sub(SPACES) & !eight)
    });
    found & HIGHEST != 0 || rest.iter().any(|byte| *byte < b' ')
}

impl TextCheck {
    /// Begins a string. `keeps` says whether [`Self::decoded`] is asked at its end.
    pub(crate) fn begin(&mut self, keeps: bool) {
        self.kept.clear();
        let kept = std::mem::take(&mut self.kept);
        *self = Self { kept, keeps, ..Self::default() };
    }

    /// Takes bytes that are neither a quote nor part of an escape.
    pub(crate) fn plain(&mut self, text: &[u8]) -> Result<(), TextFault> {
        if text.is_empty() {
            return Ok(());
        }
        if self.is_paired {
            return Err(TextFault::NotAllowed);
        }
        self.keep(text);
        if has_control(text) {
            return Err(TextFault::NotAllowed);
        }
        let mut text = text;
        while self.cut_length > 0 {
            let Some((byte, rest)) = text.split_first() else { return Ok(()) };
            self.cut[self.cut_length] = *byte;
            self.cut_length += 1;
            text = rest;
            match std::str::from_utf8(&self.cut[..self.cut_length]) {
                Ok(_) => self.cut_length = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(TextFault::NotUtf8),
            }
        }
        if let Err(error) = std::str::from_utf8(text) {
            let cut = &text[error.valid_up_to()..];
            // A character has four bytes at most, so that three of one fit.
            if error.error_len().is_some() || cut.len() > 3 {
                return Err(TextFault::NotUtf8);
            }
            self.cut[..cut.len()].copy_from_slice(cut);
            self.cut_length = cut.len();
        }
        Ok(())
    }

    /// A quote or a backslash ends the plain text.
    pub(crate) const fn plain_ends(&self) -> Result<(), TextFault> {
        if self.cut_length > 0 { Err(TextFault::NotUtf8) } else { Ok(()) }
    }

    /// The quote ends the string.
    pub(crate) const fn ends(&self) -> Result<(), TextFault> {
        if self.is_paired { Err(TextFault::NotAllowed) } else { self.plain_ends() }
    }

    /// The byte behind a backslash; whether digits follow.
    pub(crate) fn escape(&mut self, byte: u8) -> Result<bool, TextFault> {
        self.keep(&[b'\\', byte]);
        match byte {
            b'u' => (self.digits, self.code) = (4, 0),
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' if !self.is_paired => {}
            _ => return Err(TextFault::NotAllowed),
        }
        Ok(byte == b'u')
    }

    /// A digit of an escape; whether it was the last one.
    pub(crate) fn digit(&mut self, byte: u8) -> Result<bool, TextFault> {
        let Some(digit) = char::from(byte).to_digit(16) else { return Err(TextFault::NotAllowed) };
        self.keep(&[byte]);
        self.code = self.code << 4 | u16::try_from(digit).unwrap_or_default();
        self.digits -= 1;
        if self.digits > 0 {
            return Ok(false);
        }
        // A character beyond 16 bits is written as two escapes, and neither half stands alone.
        self.is_paired = match (self.code, self.is_paired) {
            (0xD800..=0xDBFF, false) => true,
            (0xDC00..=0xDFFF, true) => false,
            (0xD800..=0xDFFF, _) | (_, true) => return Err(TextFault::NotAllowed),
            _ => false,
        };
        Ok(true)
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

    fn keep(&mut self, bytes: &[u8]) {
        if !self.keeps || self.is_too_long {
            return;
        }
        self.is_too_long = self.kept.len() + bytes.len() > LONGEST;
        if !self.is_too_long {
            self.kept.extend_from_slice(bytes);
        }
    }
}
