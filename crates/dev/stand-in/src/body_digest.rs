//! A digest of the bytes of a long body, which is not kept: whether they came as they were sent.

/// A digest, however the bytes are split.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BodyDigest {
    bytes: u64,
    hash: u64,
    /// Bytes that make no whole word yet.
    rest: Vec<u8>,
}

impl BodyDigest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut digest = Self::default();
        digest.feed(bytes);
        digest
    }

    /// Adds bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let (head, mut bytes) = bytes.split_at(bytes.len().min((8 - self.rest.len()) % 8));
        self.rest.extend_from_slice(head);
        if self.rest.len() == 8 {
            let word = std::mem::take(&mut self.rest);
            self.mix(&word);
        }
        // Whole words, so that a build without optimisation takes a hundred megabytes in a moment.
        while let Some((word, rest)) = bytes.split_at_checked(8) {
            self.mix(word);
            bytes = rest;
        }
        self.rest.extend_from_slice(bytes);
    }

    /// How many bytes there were.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many bytes there were, and their hash.
    pub fn finish(mut self) -> (u64, u64) {
        let rest = std::mem::take(&mut self.rest);
        self.mix(&rest);
        (self.bytes, self.hash)
    }

    fn mix(&mut self, word: &[u8]) {
        let mut padded = [0; 8];
        padded[..word.len()].copy_from_slice(word);
        self.hash = (self.hash.rotate_left(5) ^ u64::from_le_bytes(padded)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_depends_on_every_byte_and_on_no_split() {
        let bytes: Vec<u8> = (0..=200).collect();
        let digest = |bytes: &[u8], split: usize| {
            let mut digest = BodyDigest::default();
            bytes.chunks(split).for_each(|chunk| digest.feed(chunk));
            digest.finish()
        };
        for split in 1..bytes.len() {
            assert_eq!(digest(&bytes, split), digest(&bytes, bytes.len()), "{split}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_ne!(digest(&changed, 7), digest(&bytes, 7), "{at}");
        }
    }
}
