//! A command line, as events and the snapshot share it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A list of arguments that never changes. Clones share it: a command line is in its event and in the snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct ArgumentList(#[schemars(with = "Vec<String>")] Arc<[Box<str>]>);

impl ArgumentList {
    /// The arguments, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|argument| &**argument)
    }

    /// Whether there is no argument.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every argument as a value of its own.
    pub fn to_vec(&self) -> Vec<String> {
        self.iter().map(str::to_owned).collect()
    }
}

impl<T: AsRef<str>> FromIterator<T> for ArgumentList {
    fn from_iter<I: IntoIterator<Item = T>>(arguments: I) -> Self {
        Self(arguments.into_iter().map(|argument| argument.as_ref().into()).collect())
    }
}

impl From<Vec<String>> for ArgumentList {
    fn from(arguments: Vec<String>) -> Self {
        arguments.into_iter().collect()
    }
}

impl<const N: usize> From<[&str; N]> for ArgumentList {
    fn from(arguments: [&str; N]) -> Self {
        arguments.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_a_list_of_texts_in_json() {
        let arguments = ArgumentList::from(["--port", "8080", "", "ä\0"]);
        let json = serde_json::to_string(&arguments).expect("serializes");
        assert_eq!(json, r#"["--port","8080","","ä\u0000"]"#);
        assert_eq!(serde_json::from_str::<ArgumentList>(&json).expect("reads"), arguments);
        assert_eq!(arguments.to_vec(), ["--port", "8080", "", "ä\0"]);
    }
}
