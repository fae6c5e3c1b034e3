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

    /// The value of a long option such as `--port`, as its own argument or after `=`. llama-server takes `_` for `-` in a name, and
    /// the last of several.
    pub fn option(&self, name: &str) -> Option<&str> {
        let is_it = |option: &str| option.starts_with("--") && option.replace('_', "-") == name;
        let mut value = None;
        let mut arguments = self.iter();
        while let Some(argument) = arguments.next() {
            match argument.split_once('=') {
                None if is_it(argument) => value = arguments.next(),
                Some((option, joined)) if is_it(option) => value = Some(joined),
                _ => {}
            }
        }
        value
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
    fn the_value_of_an_option_is_found_in_either_form() {
        let argv = ArgumentList::from(["llama-server", "--api-prefix", "/a", "--ssl-cert-file=/c"]);
        assert_eq!(argv.option("--api-prefix"), Some("/a"));
        assert_eq!(argv.option("--ssl-cert-file"), Some("/c"));
        assert_eq!(argv.option("--ssl-cert"), None);
        let argv =
            ArgumentList::from(["llama-server", "--api_prefix", "/a", "--api-prefix", "/b", "--ssl_cert_file=/c"]);
        assert_eq!(argv.option("--api-prefix"), Some("/b"), "the last one counts");
        assert_eq!(argv.option("--ssl-cert-file"), Some("/c"));
    }

    #[test]
    fn arguments_are_a_list_of_texts_in_json() {
        let arguments = ArgumentList::from(["--port", "8080", "", "ä\0"]);
        let json = serde_json::to_string(&arguments).expect("serializes");
        assert_eq!(json, r#"["--port","8080","","ä\u0000"]"#);
        assert_eq!(serde_json::from_str::<ArgumentList>(&json).expect("reads"), arguments);
        assert_eq!(arguments.to_vec(), ["--port", "8080", "", "ä\0"]);
    }
}
