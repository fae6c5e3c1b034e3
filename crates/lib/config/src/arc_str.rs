//! [`ArcStr`]: a shared string.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use llama_warden_events::ServerId;

/// An immutable string. Cloning copies a pointer: all clones share the bytes.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArcStr(Arc<str>);

impl ArcStr {
    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Deref for ArcStr {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ArcStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for ArcStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl From<&str> for ArcStr {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl From<String> for ArcStr {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<ServerId> for ArcStr {
    fn from(id: ServerId) -> Self {
        Self(id.into())
    }
}

impl From<&ArcStr> for String {
    fn from(text: &ArcStr) -> Self {
        text.as_str().to_owned()
    }
}

impl PartialEq<&str> for ArcStr {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}
