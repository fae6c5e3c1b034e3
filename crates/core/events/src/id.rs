//! Identifiers. Each is a newtype that can only be built from a valid value.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of a server in the configuration: 1 to 64 characters of `[A-Za-z0-9._-]`, not starting with `-` or `.`; or such a
/// name and `~canary`, the name of a server that the daemon adds for a while and that no configuration can have.
///
/// A leading dash would read as an option and a leading dot as a hidden or parent directory wherever the name becomes
/// an argument or a file name. Cloning is cheap: the text is shared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(description = "The name of a server: letters, digits, `.`, `_` and `-`, not starting with `.` or `-`.")]
#[schemars(extend("pattern" = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}(~canary)?$"))]
pub struct ServerId(#[schemars(with = "String")] Arc<str>);

/// Why a text is not a [`ServerId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a server id: 1 to 64 of A-Z a-z 0-9 . _ - and neither `-` nor `.` first")]
pub struct InvalidServerId(pub String);

impl ServerId {
    /// Longest id in a configuration, in bytes.
    pub const MAX_LEN: usize = 64;

    /// The end of the id of a canary.
    const CANARY: &str = "~canary";

    /// Checks `text` and wraps it.
    pub fn new(text: &str) -> Result<Self, InvalidServerId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let name = text.strip_suffix(Self::CANARY).unwrap_or(text);
        let valid =
            (1..=Self::MAX_LEN).contains(&name.len()) && name.bytes().all(allowed) && !name.starts_with(['-', '.']);
        if valid { Ok(Self(text.into())) } else { Err(InvalidServerId(text.to_owned())) }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as text that is shared and not copied.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The id of the canary of this server.
    #[must_use]
    pub fn canary(&self) -> Self {
        Self(format!("{}{}", self.0.trim_end_matches(Self::CANARY), Self::CANARY).into())
    }

    /// Whether it is the id of a canary.
    pub fn is_canary(&self) -> bool {
        self.0.ends_with(Self::CANARY)
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl AsRef<str> for ServerId {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ServerId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for ServerId {
    type Err = InvalidServerId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for ServerId {
    type Error = InvalidServerId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text)
    }
}

impl From<ServerId> for String {
    fn from(id: ServerId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl From<ServerId> for Arc<str> {
    fn from(id: ServerId) -> Self {
        id.0
    }
}

/// The id of one run of the daemon: 16 lower-case hexadecimal digits, drawn at start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct BootId(#[schemars(with = "String")] u64);

/// Why a text is not a [`BootId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the id of a run: 16 lower-case hexadecimal digits")]
pub struct InvalidBootId(pub String);

impl BootId {
    /// Wraps a number drawn by the caller.
    pub const fn from_random(random: u64) -> Self {
        Self(random)
    }

    /// The number itself.
    pub const fn as_number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for BootId {
    type Error = InvalidBootId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match u64::from_str_radix(&text, 16).map(Self) {
            Ok(id) if id.to_string() == text => Ok(id),
            _ => Err(InvalidBootId(text)),
        }
    }
}

impl From<BootId> for String {
    fn from(id: BootId) -> Self {
        id.to_string()
    }
}

/// The number of an event: gapless from 1 within one run of the daemon. 0 stands before the first event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Seq(u64);

impl Seq {
    /// Wraps a number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A place in the events: a number, and the run of the daemon that it belongs to, as `BOOT:SEQ`. A number alone belongs to the
/// run that is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(description = "The id of an event, `BOOT:SEQ`, or its number alone.")]
#[schemars(extend("pattern" = "^([0-9a-f]{16}:)?[0-9]+$"))]
pub struct EventPosition {
    /// The run; `None` is the one that is asked.
    #[schemars(skip)]
    pub boot: Option<BootId>,
    /// The number of the event.
    #[schemars(skip)]
    pub seq: Seq,
}

/// Why a text is not an [`EventPosition`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the id of an event: BOOT:SEQ, or a number")]
pub struct InvalidEventPosition(pub String);

impl fmt::Display for EventPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.boot {
            Some(boot) => write!(f, "{boot}:{}", self.seq),
            None => self.seq.fmt(f),
        }
    }
}

impl std::str::FromStr for EventPosition {
    type Err = InvalidEventPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidEventPosition(text.to_owned());
        let (boot, seq) = match text.split_once(':') {
            Some((boot, seq)) => (Some(BootId::try_from(boot.to_owned()).map_err(|_| invalid())?), seq),
            None => (None, text),
        };
        Ok(Self { boot, seq: Seq::new(seq.parse().map_err(|_| invalid())?) })
    }
}

impl TryFrom<String> for EventPosition {
    type Error = InvalidEventPosition;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<EventPosition> for String {
    fn from(position: EventPosition) -> Self {
        position.to_string()
    }
}

/// A number of the run that is asked.
impl From<Seq> for EventPosition {
    fn from(seq: Seq) -> Self {
        Self { boot: None, seq }
    }
}

/// The number of a launch of a server in this run of the daemon: 1 for the first; 0 means never launched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Incarnation(u64);

impl Incarnation {
    /// Wraps a number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The launch that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_id_takes_the_documented_characters_only() {
        for good in ["a", "qwen3_4p0b_q4km_fast", "A.b-c_9", &"x".repeat(64)] {
            assert_eq!(ServerId::new(good).map(String::from).as_deref(), Ok(good));
        }
        for bad in ["", "--host", ".hidden", "..", "a b", "a/b", "ä", "a\n", &"x".repeat(65)] {
            assert!(ServerId::new(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn the_id_of_a_canary_is_none_that_a_server_can_be_given() {
        let long = ServerId::new(&"x".repeat(64)).expect("valid");
        let canary = long.canary();
        assert!(canary.is_canary() && !long.is_canary());
        assert_eq!(ServerId::new(canary.as_str()).as_ref(), Ok(&canary), "it is read back");
        assert_eq!(canary.canary(), canary);
        for bad in ["~canary", "a~other", "a~canary~canary"] {
            assert!(ServerId::new(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn the_id_of_a_run_is_read_as_it_is_written() {
        let id = BootId::from_random(0xabc);
        assert_eq!(BootId::try_from(id.to_string()), Ok(id));
        for bad in ["", "abc", "0000000000000ABC", "+000000000000abc", "00000000000000abc", "g000000000000000"] {
            assert!(BootId::try_from(bad.to_owned()).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_position_is_read_with_its_run_and_without() {
        for text in ["0000000000000abc:17", "17", "0"] {
            assert_eq!(text.parse::<EventPosition>().expect("valid").to_string(), text);
        }
        for bad in ["", ":", "abc:1", "0000000000000abc:", "0000000000000abc:x", "-1", "1:0000000000000abc"] {
            assert!(bad.parse::<EventPosition>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_server_id_from_json_is_checked() {
        assert!(serde_json::from_str::<ServerId>("\"ok\"").is_ok());
        let error = serde_json::from_str::<ServerId>("\"../x\"").expect_err("must be refused");
        assert!(error.to_string().contains("not a server id"), "{error}");
    }
}
