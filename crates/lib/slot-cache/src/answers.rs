//! Reads the answers of llama-server to a save and a restore of a slot.

use serde_json::Value as Json;

/// Fewest tokens that are worth a file.
const FLOOR: u64 = 256;

/// The answer to a save.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaveAnswer {
    /// Tokens in the file.
    pub tokens: u64,
    /// Bytes of the file.
    pub bytes: u64,
}

/// The answer to a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoreAnswer {
    /// Tokens that were read.
    pub tokens: u64,
    /// Bytes that were read.
    pub bytes: u64,
}

impl SaveAnswer {
    /// The answer in a body; `None` where it is another one.
    pub fn read(body: &[u8]) -> Option<Self> {
        let [tokens, bytes] = numbers(body, ["n_saved", "n_written"])?;
        Some(Self { tokens, bytes })
    }

    /// Whether the slot held enough, and a file was written: an empty slot is saved with success, and so is one without a folder.
    pub const fn is_worth_keeping(&self) -> bool {
        self.tokens >= FLOOR && self.bytes > 0
    }
}

impl RestoreAnswer {
    /// The answer in a body; `None` where it is another one.
    pub fn read(body: &[u8]) -> Option<Self> {
        let [tokens, bytes] = numbers(body, ["n_restored", "n_read"])?;
        Some(Self { tokens, bytes })
    }
}

fn numbers(body: &[u8], keys: [&str; 2]) -> Option<[u64; 2]> {
    let answer: Json = serde_json::from_slice(body).ok()?;
    let number = |key| answer.get(key).and_then(Json::as_u64);
    Some([number(keys[0])?, number(keys[1])?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_slot_and_a_file_that_was_not_written_are_not_worth_keeping() {
        let saved = |tokens, bytes| {
            let body =
                format!(r#"{{"id_slot":0,"filename":"x","n_saved":{tokens},"n_written":{bytes},"timings":{{}}}}"#);
            SaveAnswer::read(body.as_bytes()).expect("an answer")
        };
        for (tokens, bytes, expected) in [(0, 20, false), (255, 99, false), (300, 0, false), (256, 1, true)] {
            assert_eq!(saved(tokens, bytes).is_worth_keeping(), expected, "{tokens} {bytes}");
        }
        assert_eq!(SaveAnswer::read(br#"{"error":{"code":400}}"#), None);
        let restored = RestoreAnswer::read(br#"{"id_slot":0,"n_restored":206,"n_read":3803268}"#);
        assert_eq!(restored, Some(RestoreAnswer { tokens: 206, bytes: 3_803_268 }));
    }
}
