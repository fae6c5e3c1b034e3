//! Whether a restored slot was any use, by the first answer that continues what it holds.
//!
//! A restore is no proof: builds of 2026 restore a model with a sliding window with full success and compute the whole prompt again. A
//! request that has nothing to do with the slot looks the same, so only one counts that begins as the last one before the stop did.

use std::hash::{DefaultHasher, Hash, Hasher};

use llama_warden_body_scan::member;

/// Tokens by which a count of the last request and one of a slot may differ and mean the same: the last token that was generated is not
/// in the slot.
const SAME_COUNT: u64 = 4;

/// The members of a body in which the conversation stands.
const CONVERSATIONS: [&str; 3] = ["messages", "prompt", "input"];

/// What a request asked, so far as another one can be seen to continue it: nothing of it can be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptText {
    length: usize,
    hash: u64,
}

/// The tokens of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TurnTokens {
    /// Of the prompt, and read.
    pub read: u64,
    /// Of the prompt, and in the slot already.
    pub cached: u64,
    /// Generated.
    pub generated: u64,
}

/// The last request of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// What it asked.
    pub text: PromptText,
    /// What its answer says.
    pub tokens: TurnTokens,
}

/// What an answer proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The restored tokens were used.
    Works,
    /// Everything was computed again.
    NoUse,
}

impl PromptText {
    /// Of a body; `None` where no conversation is found in it.
    pub fn of(body: &[u8]) -> Option<Self> {
        let text = conversation(body)?;
        Some(Self { length: text.len(), hash: hashed(text) })
    }

    /// Whether the conversation in a body begins with this one.
    pub fn is_continued_by(&self, body: &[u8]) -> bool {
        conversation(body).and_then(|text| text.get(..self.length)).is_some_and(|text| hashed(text) == self.hash)
    }
}

/// The member with the conversation, without the bracket or the quote that ends it.
fn conversation(body: &[u8]) -> Option<&[u8]> {
    let member = CONVERSATIONS.iter().find_map(|key| member(body, key))?;
    member.split_last().map(|(_, text)| text.trim_ascii_end())
}

fn hashed(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

impl Turn {
    /// Whether a slot with this many tokens holds the request.
    pub const fn is_in(&self, slot_tokens: u64) -> bool {
        let TurnTokens { read, cached, generated } = self.tokens;
        (read + cached + generated).abs_diff(slot_tokens) <= SAME_COUNT
    }
}

/// What the tokens of an answer prove whose request continues `last`, which a restored slot holds; `None` where they prove nothing.
pub fn judge(last: &Turn, next: TurnTokens) -> Option<Proof> {
    let prompt = last.tokens.read + last.tokens.cached;
    // Some builds do not say what was in the slot. The prompt has all of the last one, so that little to read says it.
    if next.cached * 2 >= prompt || next.read * 2 <= prompt {
        return Some(Proof::Works);
    }
    let is_all_read = next.cached == 0 && next.read * 10 >= prompt * 9;
    // A long addition is read whether or not the slot was used.
    (is_all_read && next.read * 2 <= prompt * 3).then_some(Proof::NoUse)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn tokens(read: u64, cached: u64, generated: u64) -> TurnTokens {
        TurnTokens { read, cached, generated }
    }

    #[test]
    fn only_a_request_that_begins_as_the_last_one_did_continues_it() {
        let first = br#"{"model":"a","messages":[{"role":"user","content":"hi"} ],"stream":true}"#;
        let text = PromptText::of(first).expect("a conversation");
        let continues = |body: &str| text.is_continued_by(body.as_bytes());
        assert!(continues(
            r#"{"messages":[{"role":"user","content":"hi"},{"role":"assistant","content":"x"}],"model":"b"}"#
        ));
        assert!(continues(r#"{"model":"a","messages":[{"role":"user","content":"hi"} ]}"#));
        for other in [
            r#"{"messages":[{"role":"user","content":"ho"},{"role":"assistant","content":"x"}]}"#,
            r#"{"messages":[]}"#,
            r#"{"prompt":"hi"}"#,
            "",
        ] {
            assert!(!continues(other), "{other}");
        }
        let prompt = PromptText::of(br#"{"prompt":"once upon"}"#).expect("a prompt");
        assert!(prompt.is_continued_by(br#"{"prompt":"once upon a time"}"#));
        assert!(!prompt.is_continued_by(br#"{"prompt":"once up"}"#));
        assert_eq!(PromptText::of(br#"{"model":"a"}"#), None);
    }

    #[test]
    fn an_answer_proves_what_was_measured_of_real_builds() {
        // A prompt of 195 tokens and 11 generated ones were saved: what was read and cached of the next request.
        let last = Turn { text: PromptText { length: 0, hash: 0 }, tokens: tokens(195, 0, 11) };
        for (next, expected) in [
            (tokens(3, 206, 1), Some(Proof::Works)),
            (tokens(2, 195, 1), Some(Proof::Works)),
            (tokens(101, 98, 1), Some(Proof::Works)),
            // Builds that do not say what was cached.
            (tokens(1, 0, 1), Some(Proof::Works)),
            (tokens(209, 0, 1), Some(Proof::NoUse)),
            (tokens(197, 0, 1), Some(Proof::NoUse)),
            // A long addition, which says nothing where the build does not say what was cached.
            (tokens(900, 0, 1), None),
            (tokens(150, 60, 1), None),
        ] {
            assert_eq!(judge(&last, next), expected, "{next:?}");
        }
        assert_eq!([206, 205, 208, 100].map(|slot| last.is_in(slot)), [true, true, true, false]);
    }
}
