//! Reads the first and the last bytes of an answer: its tokens, model and id, why it ended, and whether that was an error.
//!
//! An answer may have megabytes, and its numbers are near its ends: `usage` or `timings` behind the text, Anthropic's first event
//! before it. So the first 512 bytes and the last 4 KiB are kept. A text of a model cannot imitate them: its quotes are escaped.

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::{self, Finder};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

/// Bytes that are kept of the beginning.
const FIRST: usize = 512;

/// Bytes that are kept of the end.
const LAST: usize = 4096;

/// The tokens of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenUse {
    /// Of the prompt, and read.
    pub input: u64,
    /// Of the prompt, and in the cache already.
    pub cached: u64,
    /// Tokens that were generated.
    pub output: u64,
}

/// What an answer says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerFacts {
    /// The model.
    pub model: Option<String>,
    /// The id of the answer.
    pub id: Option<String>,
    /// Why the generation ended.
    pub finish_reason: Option<String>,
}

/// The first and the last bytes of an answer.
#[derive(Debug, Default)]
pub(crate) struct AnswerEnds {
    first: Vec<u8>,
    /// A ring, allocated with the first byte that does not fit into `first`.
    last: Vec<u8>,
    /// Bytes behind `first` so far.
    behind: usize,
}

impl AnswerEnds {
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        if self.first.len() < FIRST {
            let (first, rest) = bytes.split_at(bytes.len().min(FIRST - self.first.len()));
            self.first.extend_from_slice(first);
            bytes = rest;
        }
        if bytes.is_empty() {
            return;
        }
        self.last.resize(LAST, 0);
        // Only the last ones are seen later.
        let skipped = bytes.len().saturating_sub(LAST);
        self.behind += skipped;
        bytes = &bytes[skipped..];
        let at = self.behind % LAST;
        let (before, after) = bytes.split_at(bytes.len().min(LAST - at));
        self.last[at..at + before.len()].copy_from_slice(before);
        self.last[..after.len()].copy_from_slice(after);
        self.behind += bytes.len();
    }

    /// The last bytes in order: the whole answer where it is short, so that what begins in `first` is not cut.
    fn tail(&self) -> Cow<'_, [u8]> {
        match self.behind {
            0 => Cow::Borrowed(&self.first),
            behind if behind <= LAST => [&self.first, &self.last[..behind]].concat().into(),
            behind => [&self.last[behind % LAST..], &self.last[..behind % LAST]].concat().into(),
        }
    }

    pub(crate) fn read(&self, is_stream: bool) -> AnswerSummary {
        let tail = self.tail();
        let texts = [&tail[..], &self.first];
        AnswerSummary { tokens: tokens(texts), has_error_event: is_stream && has_error_event(&tail) }
    }

    /// What is read for logs and spans only.
    pub(crate) fn facts(&self) -> AnswerFacts {
        let tail = self.tail();
        let texts = [&tail[..], &self.first];
        AnswerFacts {
            model: texts.iter().find_map(|text| string(text, b"\"model\":")),
            id: id(texts),
            finish_reason: [&b"\"finish_reason\":"[..], b"\"stop_reason\":", b"\"stop_type\":"]
                .iter()
                .find_map(|key| string(&tail, key)),
        }
    }
}

/// What the ends say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AnswerSummary {
    pub(crate) tokens: Option<TokenUse>,
    /// Whether the stream ended with an error, of llama-server or of the router.
    pub(crate) has_error_event: bool,
}

/// What llama-server has read and generated.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TimingNumbers {
    prompt_n: Option<u64>,
    predicted_n: Option<u64>,
    cache_n: Option<u64>,
}

/// The same in the shapes of OpenAI and Anthropic.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct UsageNumbers {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    prompt_tokens_details: Option<CachedNumbers>,
    input_tokens_details: Option<CachedNumbers>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CachedNumbers {
    cached_tokens: Option<u64>,
}

/// Made once: each answer is searched.
static TIMINGS: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\"timings\":"));
static USAGE: LazyLock<Finder<'_>> = LazyLock::new(|| Finder::new("\"usage\":"));

/// `timings` says exactly what was read; `usage` may count cached tokens as input.
fn tokens([tail, first]: [&[u8]; 2]) -> Option<TokenUse> {
    let timings = last_object(tail, &TIMINGS);
    if let Some(TimingNumbers { prompt_n: Some(input), predicted_n: Some(output), cache_n }) = timings {
        return Some(TokenUse { input, cached: cache_n.unwrap_or(0), output });
    }
    let usage = |text| last_object::<UsageNumbers>(text, &USAGE);
    let known = usage(tail).or_else(|| usage(first))?;
    let output = known.completion_tokens.or(known.output_tokens).unwrap_or(0);
    let cached_of = |details: Option<CachedNumbers>| details.and_then(|details| details.cached_tokens);
    if let Some(all) = known.prompt_tokens {
        let cached = cached_of(known.prompt_tokens_details).unwrap_or(0).min(all);
        return Some(TokenUse { input: all - cached, cached, output });
    }
    // Anthropic: the first event has the input, the last one the output.
    let began = usage(first).unwrap_or_default();
    let input = known.input_tokens.or(began.input_tokens)?;
    if let Some(cached) = cached_of(known.input_tokens_details) {
        let cached = cached.min(input);
        return Some(TokenUse { input: input - cached, cached, output });
    }
    let cached = known.cache_read_input_tokens.or(began.cache_read_input_tokens);
    Some(TokenUse { input, cached: cached.unwrap_or(0), output })
}

/// The last object that stands behind a key, whole.
fn last_object<T: DeserializeOwned>(text: &[u8], key: &Finder<'_>) -> Option<T> {
    let mut places: Vec<usize> = key.find_iter(text).collect();
    places.reverse();
    places.into_iter().find_map(|place| value(&text[place + key.needle().len()..]))
}

/// The last string that stands behind a key.
fn string(text: &[u8], key: &[u8]) -> Option<String> {
    let mut places: Vec<usize> = memmem::find_iter(text, key).collect();
    places.reverse();
    places.into_iter().find_map(|place| value::<Json>(&text[place + key.len()..])?.as_str().map(str::to_owned))
}

/// The value that a text begins with.
fn value<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    serde_json::Deserializer::from_slice(text).into_iter().next()?.ok()
}

/// The id of the answer, not of a call or an item in it.
fn id(texts: [&[u8]; 2]) -> Option<String> {
    let is_answer = |id: &String| ["chatcmpl-", "cmpl-", "resp_", "msg_"].iter().any(|start| id.starts_with(start));
    let key = b"\"id\":";
    // An answer of many items has the ids of messages too, and its own comes first.
    let ids = |text: &[u8]| -> Vec<String> {
        let places = memmem::find_iter(text, key);
        places
            .filter_map(|place| value::<Json>(&text[place + key.len()..])?.as_str().map(str::to_owned))
            .filter(is_answer)
            .collect()
    };
    let [tail, first] = texts.map(ids);
    let all = || first.iter().chain(&tail);
    all().find(|id| id.starts_with("resp_")).or_else(|| all().next()).cloned()
}

fn has_error_event(tail: &[u8]) -> bool {
    [&b"\ndata: {\"error\":"[..], b"\nerror: {", b"\nevent: error\n"]
        .iter()
        .any(|mark| memmem::find(tail, mark).is_some())
        || tail.starts_with(b"data: {\"error\":")
        || tail.starts_with(b"error: {")
        || tail.starts_with(b"event: error\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(text: &str) -> AnswerEnds {
        let mut ends = AnswerEnds::default();
        ends.push(text.as_bytes());
        ends
    }

    fn read(text: &str) -> AnswerSummary {
        ends(text).read(true)
    }

    fn used(input: u64, cached: u64, output: u64) -> Option<TokenUse> {
        Some(TokenUse { input, cached, output })
    }

    #[test]
    fn tokens_are_read_from_every_shape_of_an_answer() {
        let long = "x".repeat(20_000);
        for (text, expected) in [
            (r#"{"usage":{"prompt_tokens":9,"completion_tokens":5,"total_tokens":14,"prompt_tokens_details":{"cached_tokens":4}}}"#.to_owned(), used(5, 4, 5)),
            (r#"{"usage":{"prompt_tokens":9,"completion_tokens":5},"timings":{"cache_n":8,"prompt_n":1,"predicted_n":5,"predicted_ms":1.5}}"#.to_owned(), used(1, 8, 5)),
            (format!(r#"data: {{"choices":[{{"text":"{long}"}}]}}\n\ndata: {{"choices":[],"usage":null,"timings":{{"prompt_n":3,"predicted_n":7}}}}\n\ndata: [DONE]\n\n"#), used(3, 0, 7)),
            (r#"{"usage":{"input_tokens":9,"output_tokens":5,"input_tokens_details":{"cached_tokens":4}}}"#.to_owned(), used(5, 4, 5)),
            (format!("event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":\"msg_1\",\"usage\":{{\"cache_read_input_tokens\":2,\"input_tokens\":6,\"output_tokens\":0}}}}}}\n\n{long}\n\ndata: {{\"type\":\"message_delta\",\"usage\":{{\"output_tokens\":12}}}}\n\n"), used(6, 2, 12)),
            (r#"{"usage":{"prompt_tokens":4,"total_tokens":4},"data":[]}"#.to_owned(), used(4, 0, 0)),
            (format!(r#"{{"usage":{{"prompt_tokens":4,"total_tokens":4}},"data":["{long}"]}}"#), used(4, 0, 0)),
            (r#"{"content":"\"usage\":{\"prompt_tokens\":1000000}"}"#.to_owned(), None),
            (r#"{"content":"","usage":{"prompt_tok"#.to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(read(&text).tokens, expected, "{}", &text[..text.len().min(120)]);
        }
    }

    #[test]
    fn the_ends_are_the_same_however_the_answer_is_cut() {
        let text: String = (0..3000).map(|number| format!("{number},")).collect();
        let whole = {
            let mut ends = AnswerEnds::default();
            ends.push(text.as_bytes());
            (ends.first.clone(), ends.tail().into_owned())
        };
        assert_eq!(whole.0, text.as_bytes()[..FIRST]);
        assert_eq!(whole.1, text.as_bytes()[text.len() - LAST..]);
        for size in [1, 7, 511, 512, 513, 4095, 4096, 4097, 9000] {
            let mut ends = AnswerEnds::default();
            text.as_bytes().chunks(size).for_each(|chunk| ends.push(chunk));
            assert_eq!((ends.first.clone(), ends.tail().into_owned()), whole, "{size}");
        }
    }

    #[test]
    fn an_answer_says_what_it_is() {
        let facts = |text: &str| ends(text).facts();
        let named = |model: &str, id: &str, reason: &str| AnswerFacts {
            model: Some(model.to_owned()),
            id: Some(id.to_owned()),
            finish_reason: Some(reason.to_owned()),
        };
        assert_eq!(
            facts(
                r#"{"choices":[{"finish_reason":"stop","message":{"tool_calls":[{"id":"call_1"}]}}],"model":"a","id":"chatcmpl-1"}"#
            ),
            named("a", "chatcmpl-1", "stop")
        );
        assert_eq!(
            facts(
                "data: {\"id\":\"chatcmpl-2\",\"choices\":[{\"finish_reason\":null}],\"model\":\"a\"}\n\ndata: {\"choices\":[{\"finish_reason\":\"length\"}],\"id\":\"chatcmpl-2\",\"model\":\"a\"}\n\ndata: [DONE]\n\n"
            ),
            named("a", "chatcmpl-2", "length")
        );
        assert_eq!(
            facts("data: {\"response\":{\"id\":\"resp_1\",\"model\":\"a\"}}\n\ndata: {\"item\":{\"id\":\"msg_1\"},\"finish_reason\":\"stop\"}\n\n").id.as_deref(),
            Some("resp_1")
        );
        assert_eq!(facts("no JSON"), AnswerFacts::default());
    }

    #[test]
    fn an_error_at_the_end_of_a_stream_is_seen_and_a_text_about_one_is_not() {
        for (text, expected) in [
            ("data: {\"a\":1}\n\ndata: {\"error\":{\"code\":500}}\n\n", true),
            ("\n\ndata: {\"error\":{\"code\":500}}\n\n", true),
            ("data: {\"error\":{}}\n\n", true),
            ("data: {}\n\nevent: error\ndata: {\"type\":\"error\"}\n\n", true),
            ("data: {\"content\":\"\\ndata: {\\\"error\\\":1}\"}\n\ndata: [DONE]\n\n", false),
            ("data: [DONE]\n\n", false),
        ] {
            assert_eq!(read(text).has_error_event, expected, "{text}");
        }
    }
}
