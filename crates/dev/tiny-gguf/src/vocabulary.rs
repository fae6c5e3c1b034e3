//! A SentencePiece vocabulary with byte fallback, so that every text can be tokenised.

/// The number of tokens.
pub(crate) const SIZE: usize = SPECIALS.len() + 256 + PIECES.len();

pub(crate) const UNKNOWN: u32 = 0;
pub(crate) const BEGIN: u32 = 1;
pub(crate) const END: u32 = 2;

/// A chat template in the subset of Jinja that all eras support.
pub(crate) const CHAT_TEMPLATE: &str = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] + '\\n' }}\
     {% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

/// The types of tokens, numbered as in llama.cpp.
const KIND_NORMAL: i32 = 1;
const KIND_UNKNOWN: i32 = 2;
const KIND_CONTROL: i32 = 3;
const KIND_BYTE: i32 = 6;

const SPECIALS: [(&str, i32); 3] = [("<unk>", KIND_UNKNOWN), ("<s>", KIND_CONTROL), ("</s>", KIND_CONTROL)];

/// Frequent pieces of English text. SentencePiece writes a space as `▁`.
const PIECES: [&str; 61] = [
    "▁", "e", "t", "a", "o", "i", "n", "s", "r", "h", "l", "d", "c", "u", "m", "f", "p", "g", "w", "y", "b", "v", "k",
    "x", "j", "q", "z", ".", ",", "?", "!", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "th", "he", "in", "er",
    "an", "▁t", "▁a", "▁s", "▁w", "▁o", "▁the", "▁of", "▁and", "▁to", "▁in", "ing", "▁is", "▁it", "▁you", "▁that",
];

/// The tokens in order of their ids, with their types.
pub(crate) fn tokens() -> impl Iterator<Item = (String, i32)> {
    let specials = SPECIALS.iter().map(|&(text, kind)| (text.to_owned(), kind));
    let bytes = (0..=u8::MAX).map(|byte| (format!("<0x{byte:02X}>"), KIND_BYTE));
    let pieces = PIECES.iter().map(|&text| (text.to_owned(), KIND_NORMAL));
    specials.chain(bytes).chain(pieces)
}

/// The merge scores in order of the ids. Longer pieces have higher scores, so that they are preferred.
pub(crate) fn scores() -> impl Iterator<Item = f32> {
    let neutral = std::iter::repeat_n(0.0, SPECIALS.len() + 256);
    neutral.chain(PIECES.iter().map(|text| text.chars().count() as f32 - 10.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_has_a_score_and_its_own_text() {
        let texts: std::collections::BTreeSet<String> = tokens().map(|(text, _)| text).collect();
        assert_eq!(texts.len(), SIZE);
        assert_eq!(scores().count(), SIZE);
    }
}
