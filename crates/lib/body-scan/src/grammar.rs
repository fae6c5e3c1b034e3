//! The parts of JSON's grammar that need no text: numbers, words, and the nesting of objects and arrays.

/// Where a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberPart {
    Minus,
    /// A leading zero, behind which no digit comes.
    Zero,
    Whole,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl NumberPart {
    /// The number that begins with this byte.
    pub(crate) const fn begin(byte: u8) -> Option<Self> {
        match byte {
            b'-' => Some(Self::Minus),
            b'0' => Some(Self::Zero),
            b'1'..=b'9' => Some(Self::Whole),
            _ => None,
        }
    }

    /// With the next byte; `None` where it belongs to no number.
    pub(crate) const fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Whole, b'0'..=b'9') => Self::Whole,
            (Self::Zero | Self::Whole, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::ExponentSign,
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => Self::ExponentDigits,
            _ => return None,
        })
    }

    /// Whether it may end here.
    pub(crate) const fn is_whole(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::ExponentDigits)
    }
}

/// What comes behind the first byte of a word, the next byte in the lowest place.
pub(crate) const fn word(byte: u8) -> Option<u32> {
    Some(u32::from_le_bytes(match byte {
        b't' => *b"rue\0",
        b'f' => *b"alse",
        b'n' => *b"ull\0",
        _ => return None,
    }))
}

/// Which of the open values are objects: one bit each, since llama-server sets no limit to their depth.
#[derive(Debug, Default)]
pub(crate) struct Nesting {
    bits: Vec<u64>,
    depth: usize,
}

impl Nesting {
    pub(crate) const fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn open(&mut self, is_object: bool) {
        let (index, bit) = (self.depth / 64, 1 << (self.depth % 64));
        if index == self.bits.len() {
            self.bits.push(0);
        }
        if is_object {
            self.bits[index] |= bit;
        } else {
            self.bits[index] &= !bit;
        }
        self.depth += 1;
    }

    pub(crate) const fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Whether the innermost open value is an object.
    pub(crate) fn is_object(&self) -> bool {
        let Some(at) = self.depth.checked_sub(1) else { return false };
        self.bits[at / 64] >> (at % 64) & 1 == 1
    }
}
