//! Replaces secrets in lines.

use std::borrow::Cow;

use llama_warden_dialects::REDACTED;
use memchr::memmem;

/// Replaces secrets in lines.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redactor {
    secrets: Box<[memmem::Finder<'static>]>,
}

/// Shortest secret in bytes that is replaced. Shorter ones occur in ordinary text.
const MIN_SECRET: usize = 4;

impl Redactor {
    /// Replaces each of `secrets` that has at least four bytes.
    pub(crate) fn new<T: AsRef<[u8]>>(secrets: impl IntoIterator<Item = T>) -> Self {
        let secrets = secrets.into_iter();
        let long_enough = secrets.filter(|secret| secret.as_ref().len() >= MIN_SECRET);
        Self { secrets: long_enough.map(|secret| memmem::Finder::new(secret.as_ref()).into_owned()).collect() }
    }

    /// The line without secrets; borrowed if it has none.
    pub(crate) fn redact<'a>(&self, line: &'a [u8]) -> Cow<'a, [u8]> {
        self.secrets.iter().fold(Cow::Borrowed(line), |line, secret| {
            if secret.find(&line).is_none() {
                return line;
            }
            let mut clean = Vec::with_capacity(line.len());
            let mut from = 0;
            for at in secret.find_iter(&line) {
                clean.extend_from_slice(&line[from..at]);
                clean.extend_from_slice(REDACTED.as_bytes());
                from = at + secret.needle().len();
            }
            clean.extend_from_slice(&line[from..]);
            Cow::Owned(clean)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_occurrence_of_a_secret_is_replaced() {
        let redactor = Redactor::new(["sk-12345", "hf_abc", "abc"]);
        let redacted = |line: &str| String::from_utf8(redactor.redact(line.as_bytes()).into_owned()).expect("text");
        assert_eq!(redacted("key sk-12345, sk-12345 and hf_abc"), "key [redacted], [redacted] and [redacted]");
        assert_eq!(redacted("abc is too short to hide"), "abc is too short to hide");
        assert!(matches!(redactor.redact(b"nothing here"), Cow::Borrowed(_)));
    }
}
