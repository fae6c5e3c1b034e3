//! The parts of JSON's grammar that need no text: numbers, words, and the nesting of objects and arrays.

/// What may come between two strings, numbers or words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    Value,
    /// A value, or the end of the array that has just begun.
    ValueOrEnd,
    Key,
    /// A key, or the end of the object that has just begun.
    KeyOrEnd,
    Colon,
    /// A comma, or the end of the object.
    AfterMember,
    /// A comma, or the end of the array.
    AfterElement,
    /// Nothing: the text is whole.
    Nothing,
}

/// What a byte does there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonStep {
    /// Blanks mean nothing.
    Blank,
    /// A colon or a comma.
    Leads(Expected),
    BeginsKey,
    BeginsText,
    BeginsObject,
    BeginsArray,
    BeginsNumber,
    BeginsWord,
    Ends,
    /// A NUL behind the text.
    EndsText,
    IsWrong,
}

impl JsonStep {
    /// That of a byte where this is expected.
    #[inline]
    pub(crate) fn of(expected: Expected, byte: u8) -> Self {
        STEPS[expected as usize][usize::from(byte)]
    }

    const fn find(expected: Expected, byte: u8) -> Self {
        match (expected, byte) {
            (_, b' ' | b'\t' | b'\n' | b'\r') => Self::Blank,
            (Expected::Key | Expected::KeyOrEnd, b'"') => Self::BeginsKey,
            (Expected::KeyOrEnd | Expected::AfterMember, b'}') => Self::Ends,
            (Expected::ValueOrEnd | Expected::AfterElement, b']') => Self::Ends,
            (Expected::Colon, b':') | (Expected::AfterElement, b',') => Self::Leads(Expected::Value),
            (Expected::AfterMember, b',') => Self::Leads(Expected::Key),
            (Expected::Value | Expected::ValueOrEnd, byte) => match byte {
                b'"' => Self::BeginsText,
                b'{' => Self::BeginsObject,
                b'[' => Self::BeginsArray,
                b'-' | b'0'..=b'9' => Self::BeginsNumber,
                b't' | b'f' | b'n' => Self::BeginsWord,
                _ => Self::IsWrong,
            },
            (Expected::Nothing, 0) => Self::EndsText,
            _ => Self::IsWrong,
        }
    }
}

/// The steps of every byte in every place.
static STEPS: [[JsonStep; 256]; 8] = {
    const PLACES: [Expected; 8] = [
        Expected::Value,
        Expected::ValueOrEnd,
        Expected::Key,
        Expected::KeyOrEnd,
        Expected::Colon,
        Expected::AfterMember,
        Expected::AfterElement,
        Expected::Nothing,
    ];
    let mut steps = [[JsonStep::IsWrong; 256]; 8];
    let mut index = 0;
    while index < 8 * 256 {
        let (place, byte) = (PLACES[index / 256], index % 256);
        steps[place as usize][byte] = JsonStep::find(place, byte as u8);
        index += 1;
    }
    steps
};

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

    /// Whether any digit may come next, and leads nowhere else.
    pub(crate) const fn goes_on(self) -> bool {
        matches!(self, Self::Whole | Self::Fraction | Self::ExponentDigits)
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
    /// The innermost ones, the last in the lowest place.
    inner: u64,
    /// Those around them, 64 at a time.
    outer: Vec<u64>,
    depth: usize,
}

impl Nesting {
    pub(crate) const fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn open(&mut self, is_object: bool) {
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.inner);
        }
        self.inner = self.inner << 1 | u64::from(is_object);
        self.depth += 1;
    }

    pub(crate) fn close(&mut self) {
        self.inner >>= 1;
        self.depth = self.depth.saturating_sub(1);
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.inner = self.outer.pop().unwrap_or_default();
        }
    }

    /// Whether the innermost open value is an object.
    pub(crate) const fn is_object(&self) -> bool {
        self.depth > 0 && self.inner & 1 == 1
    }
}
