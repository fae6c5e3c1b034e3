//! The bearer token: compared in constant time, and never printed.

use std::fmt;
use std::hint::black_box;

use http::HeaderValue;
use tokio::sync::watch;

/// The secret that guarded paths need over TCP: 1 to 4096 visible ASCII characters.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Box<[u8]>);

/// The token in force, which may be replaced at any time; `None` where none is configured.
#[derive(Debug, Clone)]
pub struct TokenInForce(watch::Receiver<Option<Token>>);

impl TokenInForce {
    pub(super) fn now(&self) -> watch::Ref<'_, Option<Token>> {
        self.0.borrow()
    }
}

impl Default for TokenInForce {
    fn default() -> Self {
        watch::channel(None).1.into()
    }
}

impl From<watch::Receiver<Option<Token>>> for TokenInForce {
    fn from(token: watch::Receiver<Option<Token>>) -> Self {
        Self(token)
    }
}

/// One that stays.
impl From<Token> for TokenInForce {
    fn from(token: Token) -> Self {
        watch::channel(Some(token)).1.into()
    }
}

/// A string is not a [`Token`]. The error does not contain the string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token is one line of 1 to 4096 visible ASCII characters")]
pub struct InvalidToken;

impl Token {
    /// Longest token in bytes.
    const MAX_LEN: usize = 4096;

    /// Parses the content of a token file; white space around the token is ignored.
    pub fn new(content: &str) -> Result<Self, InvalidToken> {
        let token = content.trim().as_bytes();
        let valid = (1..=Self::MAX_LEN).contains(&token.len()) && token.iter().all(u8::is_ascii_graphic);
        if valid { Ok(Self(token.into())) } else { Err(InvalidToken) }
    }

    /// Whether the value of an `Authorization` header is `Bearer` and this token.
    pub(super) fn matches(&self, authorization: &HeaderValue) -> bool {
        let value = authorization.as_bytes();
        let Some((scheme, rest)) = value.split_at_checked("bearer".len()) else { return false };
        let given = rest.trim_ascii();
        scheme.eq_ignore_ascii_case(b"bearer") && rest.starts_with(b" ") && self.equals(given)
    }

    /// Compares every byte whatever it finds, so that the duration reveals only the length of `given`. `black_box` keeps the
    /// compiler from stopping at the first difference.
    fn equals(&self, given: &[u8]) -> bool {
        let mut difference = u8::from(given.len() != self.0.len());
        for (index, byte) in given.iter().enumerate() {
            difference |= black_box(byte ^ self.0[index % self.0.len()]);
        }
        black_box(difference) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(token: &str, header: &'static str) -> bool {
        Token::new(token).expect("valid").matches(&HeaderValue::from_static(header))
    }

    #[test]
    fn only_the_whole_token_opens() {
        for header in ["Bearer s3cret", "bearer s3cret", "BEARER   s3cret "] {
            assert!(matches("s3cret\n", header), "{header}");
        }
        for header in [
            "",
            "Bearer",
            "Bearer ",
            "s3cret",
            "Basic s3cret",
            "Bearers3cret",
            "Bearer s3cre",
            "Bearer s3crets",
            "Bearer s3crets3cret",
            "Bearer S3cret",
        ] {
            assert!(!matches("s3cret", header), "{header}");
        }
    }

    #[test]
    fn a_token_is_one_visible_line_and_is_not_shown() {
        for content in ["", " \n", "two words", "two\nlines", "schlüssel", &"x".repeat(4097)] {
            assert!(Token::new(content).is_err(), "{content:?} was taken");
        }
        assert_eq!(format!("{:?}", Token::new("s3cret").expect("valid")), "Token(…)");
    }
}
