//! Whether bytes are UTF-8 while they come: a chunk may end amid a character.

/// The bytes so far are UTF-8, but for a character that the last chunk has cut.
#[derive(Debug, Default)]
pub(crate) struct Utf8Check {
    cut: [u8; 4],
    cut_length: usize,
}

impl Utf8Check {
    /// How many bytes of a character have come whose other bytes have not.
    pub(crate) const fn cut_length(&self) -> usize {
        self.cut_length
    }

    /// Takes the next bytes, or says how many of them come before a character that is none: no byte where it began in a chunk before.
    pub(crate) fn feed(&mut self, chunk: &[u8]) -> Result<(), usize> {
        let mut begin = 0;
        while self.cut_length > 0 {
            let Some(byte) = chunk.get(begin) else { return Ok(()) };
            self.cut[self.cut_length] = *byte;
            begin += 1;
            match std::str::from_utf8(&self.cut[..=self.cut_length]) {
                Ok(_) => self.cut_length = 0,
                Err(error) if error.error_len().is_none() => self.cut_length += 1,
                Err(_) => return Err(0),
            }
        }
        let rest = &chunk[begin..];
        let Err(error) = simdutf8::compat::from_utf8(rest) else { return Ok(()) };
        if error.error_len().is_some() {
            return Err(begin + error.valid_up_to());
        }
        // A character has four bytes at most, so that three of one fit.
        let cut = &rest[error.valid_up_to()..];
        self.cut[..cut.len()].copy_from_slice(cut);
        self.cut_length = cut.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_utf8_is_found_at_every_split() {
        let long = "x".repeat(200);
        for (text, fault) in [
            (b"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z".as_slice(), None),
            (b"a\xc3\xa9\xe2\x82\xacz\xf0\x9f\x98", None),
            (b"a\xc3\xa9\xe2\x82z", Some(3)),
            (b"\xffz", Some(0)),
            (b"ab\xed\xa0\x80", Some(2)),
            (b"abc\xc0\x80", Some(3)),
            (b"ab\xf4\x90\x80\x80", Some(2)),
            (b"abc\xf0\x9f\x98\xf0", Some(3)),
        ] {
            let text = [long.as_bytes(), text].concat();
            let fault = fault.map(|at: usize| long.len() + at);
            let found = |chunks: &mut dyn Iterator<Item = &[u8]>| {
                let (mut check, mut offset) = (Utf8Check::default(), 0);
                for chunk in chunks {
                    let before = check.cut_length();
                    if let Err(valid) = check.feed(chunk) {
                        return Some(offset + valid - if valid == 0 { before } else { 0 });
                    }
                    offset += chunk.len();
                }
                None
            };
            for size in [1, 2, 3, 5, 7, 64, 1000] {
                assert_eq!(found(&mut text.chunks(size)), fault, "{text:?} by {size}");
            }
            for split in 0..=text.len() {
                let (first, second) = text.split_at(split);
                assert_eq!(found(&mut [first, second].into_iter()), fault, "{text:?} at {split}");
            }
        }
    }
}
