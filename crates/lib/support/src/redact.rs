//! Secrets: finds them by name and by form, and replaces them wherever something is shown.
//!
//! Two kinds of secrets are found. Those of a name, such as an API key, are values that their owner hands to a [`Redactor`],
//! which replaces them in every line. Those of a form are found wherever they stand: the user and password of a URL, its secret
//! parameters, and what follows `Bearer` and `Authorization:`. Both are found in one pass.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, Weak};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind, Span, packed};

use crate::lock::lock;

/// Replaces a secret wherever a command line, an environment or output is shown.
pub const REDACTED: &str = "[redacted]";

/// Shortest secret in bytes that is replaced in lines. Shorter ones occur in ordinary text.
const MIN_SECRET: usize = 4;

/// Values of variables with a secret name that are none, and that occur in ordinary text.
const ORDINARY: [&str; 9] = ["true", "false", "none", "null", "basic", "default", "enabled", "disabled", "required"];

/// What introduces a secret, without the first letter where that may be a capital.
const MARKERS: [&str; 5] = ["://", "earer ", "EARER ", "uthorization", "UTHORIZATION"];

/// Whether the value of a variable, of a key in JSON or of a parameter in a URL is a secret, by its name.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase().replace('-', "_");
    let ends = ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS", "SIGNATURE"];
    let words = ["PASS", "PWD", "AUTH", "DSN", "COOKIE", "AUTHORIZATION"];
    // `PWD` alone is the working directory.
    let ends_with_word = |word: &str| name.strip_suffix(word).is_some_and(|rest| rest.ends_with('_'));
    ends.iter().any(|end| name.ends_with(end))
        || words.iter().any(|word| ends_with_word(word) || (name == *word && *word != "PWD"))
        || name.ends_with("DATABASE_URL")
}

/// The secrets in the value of an environment variable: all of it by its name, or the password of a URL or proxy.
pub fn variable_secrets(name: &str, value: &str) -> Vec<String> {
    if !is_secret_name(name) {
        let mut secrets = secrets_in(value);
        secrets.extend(proxy_user(name, value).into_iter().flat_map(|user| with_last_part(&value[user])));
        return secrets;
    }
    if ORDINARY.iter().any(|word| word.eq_ignore_ascii_case(value)) { Vec::new() } else { vec![value.to_owned()] }
}

/// The value of an environment variable as it may be shown.
pub fn masked_variable<'a>(name: &str, value: &'a str) -> Cow<'a, str> {
    match variable_secrets(name, value) {
        secrets if secrets.is_empty() => Cow::Borrowed(value),
        _ if is_secret_name(name) => Cow::Borrowed(REDACTED),
        _ => match proxy_user(name, value) {
            Some(user) => Cow::Owned(replaced(value, [user])),
            None => mask(value),
        },
    }
}

/// The user and password of a proxy that is written without a scheme, `me:password@proxy:3128`.
fn proxy_user(name: &str, value: &str) -> Option<Range<usize>> {
    let is_proxy = name.to_ascii_lowercase().ends_with("_proxy") && !value.contains("://");
    value.rfind('@').filter(|at| is_proxy && *at > 0).map(|at| 0..at)
}

/// The text without secrets that are found by their form, those of JSON by their key.
pub fn mask(text: &str) -> Cow<'_, str> {
    match secret_places(text) {
        places if places.is_empty() => Cow::Borrowed(text),
        places => Cow::Owned(replaced(text, places)),
    }
}

/// The secrets that [`mask`] replaces; of `user:password` and `Basic value` also the last part.
pub fn secrets_in(text: &str) -> Vec<String> {
    secret_places(text).into_iter().flat_map(|place| with_last_part(&text[place])).collect()
}

fn with_last_part(secret: &str) -> Vec<String> {
    let parts = [Some(secret), secret.rsplit([':', ' ']).next().filter(|last| last.len() < secret.len())];
    parts.into_iter().flatten().filter(|part| !part.is_empty() && *part != REDACTED).map(str::to_owned).collect()
}

/// The places of secrets, in their order and without overlap. They begin and end at characters.
fn secret_places(text: &str) -> Vec<Range<usize>> {
    static FINDER: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| finder(&[]));
    let mut places = Vec::new();
    if let Some(finder) = &*FINDER {
        find_places(finder, text.as_bytes(), &mut places);
    }
    json_values(text, &mut places);
    merge(&mut places);
    places
}

/// Sorts places, joins those that overlap, and drops empty ones.
fn merge(places: &mut Vec<Range<usize>>) {
    places.retain(|place| place.start < place.end);
    places.sort_unstable_by_key(|place| place.start);
    places.dedup_by(|next, before| {
        let overlaps = next.start < before.end;
        if overlaps {
            before.end = before.end.max(next.end);
        }
        overlaps
    });
}

fn replaced(text: &str, places: impl IntoIterator<Item = Range<usize>>) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut from = 0;
    for place in places {
        clean.push_str(&text[from..place.start]);
        clean.push_str(REDACTED);
        from = place.end;
    }
    clean.push_str(&text[from..]);
    clean
}

/// Finds what may be a secret in a line.
#[derive(Debug)]
struct SecretFinder {
    /// Says quickly that there is none, which is so for nearly every line: vector instructions look at 16 or 32 bytes at once. `None`
    /// on a machine without them, or for dozens of secrets.
    quick: Option<packed::Searcher>,
    /// Finds all, byte by byte.
    all: AhoCorasick,
}

impl SecretFinder {
    fn new(secrets: &[Vec<u8>]) -> Option<Self> {
        let quick = packed::Searcher::new(patterns(secrets));
        Some(Self { quick, all: finder(secrets)? })
    }

    fn is_match(&self, line: &[u8]) -> bool {
        match &self.quick {
            Some(quick) => quick.find_in(line, Span::from(0..line.len())).is_some(),
            None => self.all.is_match(line),
        }
    }
}

/// The markers, and behind them the secrets.
fn patterns(secrets: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    MARKERS.iter().map(|marker| marker.as_bytes()).chain(secrets.iter().map(Vec::as_slice))
}

/// Finds the markers and `secrets`, also those that overlap. `None` if the automaton would be too large, which some thousands of
/// secrets cannot make it. The kind is the one that is built in linear time: a table of states takes
/// minutes for a secret of one repeated letter.
fn finder(secrets: &[Vec<u8>]) -> Option<AhoCorasick> {
    let mut builder = AhoCorasick::builder();
    builder.match_kind(MatchKind::Standard).kind(Some(AhoCorasickKind::ContiguousNFA)).build(patterns(secrets)).ok()
}

/// The automata in use, by their secrets. Most servers have the same secrets, and each redactor lives as long as its server:
/// an automaton of its own would cost each server some 15 KiB (measured).
static SHARED: Mutex<BTreeMap<Vec<Vec<u8>>, Weak<SecretFinder>>> = Mutex::new(BTreeMap::new());

fn shared_finder(secrets: Vec<Vec<u8>>) -> Option<Arc<SecretFinder>> {
    let mut shared = lock(&SHARED);
    if let Some(known) = shared.get(&secrets).and_then(Weak::upgrade) {
        return Some(known);
    }
    shared.retain(|_, finder| finder.strong_count() > 0);
    let made = Arc::new(SecretFinder::new(&secrets)?);
    shared.insert(secrets, Arc::downgrade(&made));
    Some(made)
}

/// Adds the places of secrets in a line; they may overlap. Takes time in proportion to the line, whatever is in it.
fn find_places(finder: &AhoCorasick, line: &[u8], places: &mut Vec<Range<usize>>) {
    let (mut url_end, mut header_end) = (0, 0);
    for found in finder.find_overlapping_iter(line) {
        match MARKERS.get(found.pattern().as_usize()) {
            None => places.push(found.range()),
            Some(&"://") => {
                places.extend(url_user(line, found.end()));
                // Of a URL within a URL the rest is read already.
                if found.start() >= url_end {
                    url_end = url_parameters(line, found.end(), places);
                }
            }
            Some(marker) => {
                let first = found.start().checked_sub(1).map(|at| line[at].to_ascii_lowercase());
                let is_bearer = marker.eq_ignore_ascii_case("earer ");
                if first != Some(if is_bearer { b'b' } else { b'a' }) {
                    continue;
                }
                if is_bearer {
                    places.push(token(line, found.end()));
                } else if let Some(start) = header_start(line, found.end()).filter(|start| *start >= header_end) {
                    header_end = start + header_length(&line[start..]);
                    places.push(start..header_end);
                }
            }
        }
    }
}

/// The user and password of a URL whose authority begins at `start`.
fn url_user(line: &[u8], start: usize) -> Option<Range<usize>> {
    let authority = &line[start..url_part_end(line, start, |byte| matches!(byte, b'/' | b'?' | b'#'))];
    memchr::memrchr(b'@', authority).filter(|length| *length > 0).map(|length| start..start + length)
}

/// Adds the secret parameters of a URL whose authority begins at `start`, those of URLs within it too, and returns where it ends.
fn url_parameters(line: &[u8], start: usize, places: &mut Vec<Range<usize>>) -> usize {
    let end = url_part_end(line, start, |_| false);
    let Some(query) = memchr::memchr(b'?', &line[start..end]) else { return end };
    let mut at = start + query + 1;
    for parameter in line[at..end].split(|byte| matches!(byte, b'&' | b';' | b'#' | b'?')) {
        if let Some(name) = memchr::memchr(b'=', parameter)
            && name + 1 < parameter.len()
            && std::str::from_utf8(&parameter[..name]).is_ok_and(is_secret_name)
        {
            places.push(at + name + 1..at + parameter.len());
        }
        at += parameter.len() + 1;
    }
    end
}

/// Where the URL ends, or the part of it that ends with one of these bytes.
fn url_part_end(line: &[u8], start: usize, is_end: fn(u8) -> bool) -> usize {
    let end = line[start..].iter().position(|byte| ends_url(*byte) || is_end(*byte));
    end.map_or(line.len(), |length| start + length)
}

const fn ends_url(byte: u8) -> bool {
    byte.is_ascii_whitespace()
        || byte.is_ascii_control()
        || matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`' | b'\\' | b'|')
}

/// The word from `start` on.
fn token(line: &[u8], start: usize) -> Range<usize> {
    let start = start + line[start..].iter().take_while(|byte| **byte == b' ').count();
    let length = line[start..].iter().take_while(|byte| !ends_url(**byte) && !matches!(byte, b',' | b';')).count();
    start..start + length
}

/// Where the value of a header begins whose name ends at `name_end`: after `:` or `=`, with or without quotes.
fn header_start(line: &[u8], name_end: usize) -> Option<usize> {
    let skip = |at: usize| at + line[at..].iter().take_while(|byte| b"\"'\\ ".contains(byte)).count();
    let separator = skip(name_end);
    matches!(line.get(separator), Some(b':' | b'=')).then(|| skip(separator + 1))
}

/// The length of the value of a header: up to a quote, a brace or the end of the line.
fn header_length(value: &[u8]) -> usize {
    let is_end = |byte: &u8| matches!(byte, b'"' | b'\'' | b'\\' | b'}' | b'<' | b'\r' | b'\n');
    value.iter().position(is_end).unwrap_or(value.len())
}

/// Adds the places of the texts in `text` that stand behind a secret key: `"api_key": "value"`.
fn json_values(text: &str, places: &mut Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(key) = quoted(bytes, at) {
        at = key.end + 1;
        let colon = at + bytes[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if bytes.get(colon) != Some(&b':') {
            continue;
        }
        let value = colon + 1 + bytes[colon + 1..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        if bytes.get(value) == Some(&b'"')
            && let Some(value) = quoted(bytes, value)
        {
            if is_secret_name(&text[key]) && !value.is_empty() {
                places.push(value.clone());
            }
            at = value.end + 1;
        }
    }
}

/// What stands between the next two quotes from `from` on.
fn quoted(bytes: &[u8], from: usize) -> Option<Range<usize>> {
    let start = from + memchr::memchr(b'"', bytes.get(from..)?)? + 1;
    let mut end = start;
    loop {
        end += memchr::memchr2(b'"', b'\\', bytes.get(end..)?)?;
        if bytes[end] == b'"' {
            return Some(start..end);
        }
        end += 2;
    }
}

/// Replaces secrets in lines.
#[derive(Debug, Clone)]
pub struct Redactor {
    finder: Option<Arc<SecretFinder>>,
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new(Vec::<String>::new())
    }
}

impl Redactor {
    /// Replaces each of `secrets` that has at least four bytes, and what is a secret by its form.
    pub fn new<T: AsRef<[u8]>>(secrets: impl IntoIterator<Item = T>) -> Self {
        let secrets = secrets.into_iter().map(|secret| secret.as_ref().to_vec());
        let mut secrets: Vec<_> = secrets.filter(|secret| secret.len() >= MIN_SECRET).collect();
        secrets.sort_unstable();
        secrets.dedup();
        Self { finder: shared_finder(secrets) }
    }

    /// The line without secrets; borrowed if it has none. Of secrets that overlap, nothing is left.
    pub fn redact<'a>(&self, line: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(finder) = self.finder.as_ref().filter(|finder| finder.is_match(line)) else {
            return Cow::Borrowed(line);
        };
        let mut places = Vec::new();
        find_places(&finder.all, line, &mut places);
        merge(&mut places);
        if places.is_empty() {
            return Cow::Borrowed(line);
        }
        let mut clean = Vec::with_capacity(line.len());
        let mut from = 0;
        for place in places {
            clean.extend_from_slice(&line[from..place.start]);
            clean.extend_from_slice(REDACTED.as_bytes());
            from = place.end;
        }
        clean.extend_from_slice(&line[from..]);
        Cow::Owned(clean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(secrets: &[&str], line: &str) -> String {
        String::from_utf8(Redactor::new(secrets).redact(line.as_bytes()).into_owned()).expect("text")
    }

    #[test]
    fn a_secret_is_found_wherever_it_stands_and_however_long_the_line_is() {
        for (before, after) in (0..70).flat_map(|before| [0, 1, 7, 40].map(|after| (before, after))) {
            for (secret, shown) in
                [("sk-12345", REDACTED), ("Bearer x1y2", "Bearer [redacted]"), ("http://a:b@c", "http://[redacted]@c")]
            {
                let around = |text: &str| format!("{}{text}{}", "_".repeat(before), " ".repeat(after));
                assert_eq!(redacted(&["sk-12345"], &around(secret)), around(shown));
            }
        }
    }

    #[test]
    fn every_occurrence_of_a_secret_is_replaced() {
        let secrets = ["sk-12345", "hf_abc", "abc"];
        assert_eq!(
            redacted(&secrets, "key sk-12345, sk-12345 and hf_abc"),
            "key [redacted], [redacted] and [redacted]"
        );
        assert_eq!(redacted(&secrets, "abc is too short to hide"), "abc is too short to hide");
        assert!(matches!(Redactor::new(secrets).redact(b"nothing here"), Cow::Borrowed(_)));
    }

    #[test]
    fn of_a_secret_that_begins_with_another_one_nothing_is_left() {
        for secrets in [["secret", "secret-and-more"], ["secret-and-more", "secret"]] {
            assert_eq!(redacted(&secrets, "a secret-and-more, a secret."), "a [redacted], a [redacted].");
        }
    }

    #[test]
    fn a_secret_is_replaced_beside_and_within_what_is_one_by_its_form() {
        for (text, expected) in [
            ("http://h/sk-12345?token=abc", "http://h/[redacted]?token=[redacted]"),
            ("http://h/?q=sk-12345&key=a", "http://h/?q=[redacted]&key=[redacted]"),
            ("http://h/?to=http://me:pw@g/?token=abc", "http://h/?to=http://[redacted]@g/?token=[redacted]"),
            ("Authorization: a sk-12345, b", "Authorization: [redacted]"),
            ("http://s-and-more", "http:[redacted]"),
        ] {
            assert_eq!(redacted(&["sk-12345", "//s-and-more"], text), expected);
        }
    }

    #[test]
    fn of_secrets_that_overlap_nothing_is_left() {
        assert_eq!(redacted(&["abcdef", "defghi", "fghi-and-more"], "x abcdefghi-and-more!"), "x [redacted]!");
        assert_eq!(redacted(&["aaaa"], "aaaaaa"), "[redacted]");
    }

    #[test]
    fn a_long_line_of_markers_takes_no_time_out_of_proportion() {
        for part in ["://a/", "://a?b=", "authorization:", "bearer ", "://a@", "\""] {
            let line = part.repeat((256 << 10) / part.len());
            // Square time is minutes.
            mask(&line);
            redacted(&["a-secret", "://a"], &line);
        }
    }

    #[test]
    fn a_long_secret_of_one_repeated_letter_is_replaced_too() {
        let secret = "k".repeat(60_000);
        assert_eq!(redacted(&[&secret], &format!("a {secret}!")), "a [redacted]!");
    }

    #[test]
    fn a_secret_is_found_by_its_form_wherever_it_stands() {
        for (text, expected) in [
            ("get https://me:pw@host/m.gguf now", "get https://[redacted]@host/m.gguf now"),
            ("http://token@h:1/x and ftp://a:b@c", "http://[redacted]@h:1/x and ftp://[redacted]@c"),
            ("http://h/?q=a@b see me@example.org", "http://h/?q=a@b see me@example.org"),
            (
                "https://h/x?a=1&token=abc&X-Amz-Signature=def#f",
                "https://h/x?a=1&token=[redacted]&X-Amz-Signature=[redacted]#f",
            ),
            ("postgres://u:p,s;w@db/x", "postgres://[redacted]@db/x"),
            ("Authorization: Basic dXNlcjpwdw==", "Authorization: [redacted]"),
            ("authorization=Bearer abc", "authorization=[redacted]"),
            ("sent 'Bearer abc.def-1', next", "sent 'Bearer [redacted]', next"),
            (r#"{"h":{"Authorization":"Bearer abc"},"b":1}"#, r#"{"h":{"Authorization":"[redacted]"},"b":1}"#),
            ("no Authorization header, no bearer", "no Authorization header, no bearer"),
            ("listening on http://127.0.0.1:8001", "listening on http://127.0.0.1:8001"),
        ] {
            assert_eq!(redacted(&[], text), expected);
            assert_eq!(mask(text), expected);
            assert_eq!(mask(&mask(text)), expected, "masked twice");
        }
    }

    #[test]
    fn values_of_secret_keys_in_json_are_masked_and_known() {
        let text = r#"{"url":"http://h","headers":{"X-Api-Key": "k\"1", "max_tokens": "5"},"key":"k2"}"#;
        let expected =
            r#"{"url":"http://h","headers":{"X-Api-Key": "[redacted]", "max_tokens": "5"},"key":"[redacted]"}"#;
        assert_eq!(mask(text), expected);
        assert_eq!(secrets_in(text), [r#"k\"1"#, "k2"]);
        assert_eq!(secrets_in("http://me:pass@h"), ["me:pass", "pass"]);
    }

    #[test]
    fn names_say_which_values_are_secret() {
        for name in [
            "MY_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "PGPASSWORD",
            "DB_PASS",
            "BASIC_AUTH",
            "SMTP_PWD",
            "DATABASE_URL",
            "MY_DATABASE_URL",
            "SENTRY_DSN",
            "api-key",
            "SSH_PASSPHRASE",
            "Authorization",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["PWD", "OLDPWD", "PATH", "SSH_AUTH_SOCK", "BYPASS", "max_tokens", "HOST", "KEYBOARD", "XAUTHORITY"]
        {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn redactors_of_the_same_secrets_share_their_automaton() {
        let of = |secrets: &[&str]| Redactor::new(secrets).finder.expect("few secrets");
        let (one, two) = (of(&["a-secret", "another"]), of(&["another", "a-secret", "a-secret"]));
        assert!(Arc::ptr_eq(&one, &two));
        assert!(!Arc::ptr_eq(&one, &of(&["a-secret"])));
    }

    #[test]
    fn a_variable_is_masked_by_its_name_or_by_the_url_in_it() {
        for (name, value, expected) in [
            ("DB_PASS", "hunter2", REDACTED),
            ("ENABLE_AUTH", "true", "true"),
            ("https_proxy", "http://me:hunter2@proxy:3128", "http://[redacted]@proxy:3128"),
            ("HTTP_PROXY", "me:hunter2@proxy:3128", "[redacted]@proxy:3128"),
            ("no_proxy", "localhost", "localhost"),
            ("HF_ENDPOINT", "https://mirror", "https://mirror"),
        ] {
            assert_eq!(masked_variable(name, value), expected, "{name}");
        }
        assert_eq!(variable_secrets("http_proxy", "me:hunter2@proxy:3128"), ["me:hunter2", "hunter2"]);
        assert_eq!(variable_secrets("ENABLE_AUTH", "true"), [""; 0]);
    }
}
