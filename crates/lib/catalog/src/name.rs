//! Reads shard, quantisation and size from a file's name, and turns names into parts of ids.

/// The place of a shard in a split model, as `llama-gguf-split` writes it: `prefix-00001-of-00003`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShardName<'a> {
    pub(crate) prefix: &'a str,
    /// From 1 to `count`.
    pub(crate) number: u32,
    pub(crate) count: u32,
}

impl<'a> ShardName<'a> {
    /// Reads a file's stem; `None` where it names no shard.
    pub(crate) fn parse(stem: &'a str) -> Option<Self> {
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let (number, count) = (five_digits(number)?, five_digits(count)?);
        (1..=count).contains(&number).then_some(Self { prefix, number, count })
    }
}

/// A file's name split into model and quantisation: `model-Q4_K_M` is `model` and `Q4_K_M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Labelled<'a> {
    pub(crate) name: &'a str,
    pub(crate) label: Option<&'a str>,
}

impl<'a> Labelled<'a> {
    /// Splits the label off a stem without a shard number.
    pub(crate) fn parse(stem: &'a str) -> Self {
        let starts = stem.char_indices().filter_map(|(at, letter)| is_separator(letter).then_some(at));
        let candidates = std::iter::once(None).chain(starts.map(Some));
        for separator in candidates {
            let (name, label) = separator.map_or(("", stem), |at| (&stem[..at], &stem[at + 1..]));
            if is_quantisation(label) {
                let name = name.trim_end_matches(is_separator);
                return Self { name, label: Some(label) };
            }
        }
        Self { name: stem, label: None }
    }
}

/// Text as part of an id: in lower case, with `p` for a decimal point and one `_` for each run of other characters.
pub(crate) fn slug(text: &str) -> String {
    let letters: Vec<char> = text.chars().map(|letter| letter.to_ascii_lowercase()).collect();
    let mut out = String::with_capacity(letters.len());
    for (at, letter) in letters.iter().enumerate() {
        let digit_at = |at: Option<usize>| at.and_then(|at| letters.get(at)).is_some_and(char::is_ascii_digit);
        if letter.is_ascii_alphanumeric() {
            out.push(*letter);
        } else if *letter == '.' && digit_at(at.checked_sub(1)) && digit_at(Some(at + 1)) {
            out.push('p');
        } else if !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
    }
    out.truncate(out.trim_end_matches('_').len());
    out
}

/// A quantisation as part of an id: `Q4_K_M` becomes `q4km`.
pub(crate) fn compact(quantisation: &str) -> String {
    quantisation.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// Whether a slug contains the size of the model: `8b`, `0p6b`, `8x7b`, `e4b`, `270m`.
pub(crate) fn holds_size(slug: &str) -> bool {
    slug.split('_').any(|word| {
        let digits = word.strip_prefix('e').unwrap_or(word).strip_suffix(['k', 'm', 'b', 't']);
        digits.is_some_and(|digits| {
            digits.split(['x', 'p']).all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
        })
    })
}

/// A count of parameters as model names write it: `8b`, `0p6b`, `123k`.
pub(crate) fn size_of(parameters: u64) -> String {
    let units = [(1_000_000_000_000, "t"), (1_000_000_000, "b"), (1_000_000, "m"), (1_000, "k")];
    // From half a unit on, that unit is used: 0.6 billion is `0p6b`.
    let (unit, letter) = units.into_iter().find(|(unit, _)| parameters >= unit / 2).unwrap_or((1, ""));
    let tenths = (u128::from(parameters) * 10 + u128::from(unit) / 2) / u128::from(unit);
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{whole}{letter}"),
        (whole, tenth) if whole < 10 => format!("{whole}p{tenth}{letter}"),
        _ => format!("{}{letter}", (tenths + 5) / 10),
    }
}

/// The words of a name in lower case, split at everything that is no letter or digit.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
}

fn five_digits(text: &str) -> Option<u32> {
    let valid = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    valid.then(|| text.parse().ok())?
}

fn is_separator(letter: char) -> bool {
    matches!(letter, '-' | '_' | '.' | ' ')
}

/// Whether a text is a quantisation as publishers write them: `Q4_K_M`, `iq4_xs`, `UD-Q4_K_XL`, `fp16`, `MXFP4_MOE`.
fn is_quantisation(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let mut words = lower.split(is_separator);
    let mut head = words.next();
    // Publishers put `UD` ("Unsloth dynamic") and `i1` ("importance matrix") in front of the quantisation.
    while matches!(head, Some("ud" | "i1")) {
        head = words.next();
    }
    let Some(head) = head else { return false };
    let rest: Vec<&str> = words.collect();
    match head {
        "f16" | "f32" | "bf16" | "fp16" | "fp32" | "nvfp4" => rest.is_empty(),
        "mxfp4" => matches!(rest[..], [] | ["moe"]),
        _ => {
            let bits = ["iq", "tq", "q"].iter().find_map(|prefix| head.strip_prefix(prefix));
            let suffix = |word: &&str| {
                matches!(*word, "0" | "1" | "4" | "8" | "k" | "nl" | "xxs" | "xs" | "s" | "m" | "l" | "xl" | "xxl")
            };
            bits.is_some_and(|bits| matches!(bits.as_bytes(), [b'1'..=b'8']))
                && rest.len() <= 3
                && rest.iter().all(suffix)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_read_only_from_the_name_that_the_splitter_writes() {
        let shard = ShardName { prefix: "big-Q4_K_M", number: 2, count: 3 };
        assert_eq!(ShardName::parse("big-Q4_K_M-00002-of-00003"), Some(shard));
        for other in ["big-00004-of-00003", "big-00000-of-00003", "big-2-of-3", "big", "big-0000x-of-00003", "-of-"] {
            assert_eq!(ShardName::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_quantisation_is_split_off_whatever_its_spelling() {
        for (stem, name, label) in [
            ("Qwen3-8B-Q4_K_M", "Qwen3-8B", Some("Q4_K_M")),
            ("mistral-7b-instruct-v0.2.Q4_K_S", "mistral-7b-instruct-v0.2", Some("Q4_K_S")),
            ("Qwen3-30B-A3B-UD-Q4_K_XL", "Qwen3-30B-A3B", Some("UD-Q4_K_XL")),
            ("gpt-oss-20b-mxfp4", "gpt-oss-20b", Some("mxfp4")),
            ("llama_3_8b_iq4_xs", "llama_3_8b", Some("iq4_xs")),
            ("gemma-3-4b-it-qat-q4_0", "gemma-3-4b-it-qat", Some("q4_0")),
            ("mmproj-F16", "mmproj", Some("F16")),
            ("Q8_0", "", Some("Q8_0")),
            ("q4km-fan", "q4km-fan", None),
            ("Qwen-Q9_K", "Qwen-Q9_K", None),
            ("déjà-vu", "déjà-vu", None),
        ] {
            assert_eq!(Labelled::parse(stem), Labelled { name, label }, "{stem}");
        }
    }

    #[test]
    fn a_slug_is_made_of_what_an_id_may_hold() {
        for (text, expected) in [
            ("Qwen3-8B", "qwen3_8b"),
            ("Phi-3.5 mini", "phi_3p5_mini"),
            ("--host", "host"),
            ("a..b. .c.", "a_b_c"),
            ("Größe 1.", "gr_e_1"),
            ("模型", ""),
        ] {
            assert_eq!(slug(text), expected, "{text}");
        }
    }

    #[test]
    fn a_size_is_found_in_a_slug_and_no_other_word_is_taken_for_one() {
        for sized in ["qwen3_8b", "qwen3_0p6b_base", "mixtral_8x7b", "gemma_3n_e4b_it", "gemma_270m", "tiny_123k"] {
            assert!(holds_size(sized), "{sized}");
        }
        for plain in ["qwen3", "a3b", "b", "v0p3", "xb", "8xb", "model", ""] {
            assert!(!holds_size(plain), "{plain}");
        }
    }

    #[test]
    fn parameters_are_said_as_names_say_them() {
        for (parameters, expected) in [
            (0, "0"),
            (123_200, "123k"),
            (270_000_000, "270m"),
            (596_049_920, "0p6b"),
            (1_720_574_976, "1p7b"),
            (8_000_000_000, "8b"),
            (8_190_735_360, "8p2b"),
            (30_532_122_624, "31b"),
            (1_026_000_000_000, "1t"),
            (u64::MAX, "18446744t"),
        ] {
            assert_eq!(size_of(parameters), expected, "{parameters}");
        }
    }
}
