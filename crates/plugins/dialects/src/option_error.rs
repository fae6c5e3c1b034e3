//! The errors of this crate: options with which no server can be started.

use llama_warden_config::WrittenAt;

/// An option that cannot be passed to a build. Its text never contains the option's value, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("option `{option}`: {detail}")]
pub struct OptionError {
    /// The option's long name without dashes, or the key of the configuration.
    pub option: String,
    /// The mistake; behind a semicolon the next step, if there is one.
    pub detail: String,
    /// Where it is written.
    pub at: WrittenAt,
}

/// Every option with which a server cannot be started; at least one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", one_sentence(.0))]
pub struct OptionErrors(pub Vec<OptionError>);

impl OptionError {
    /// An error of an option among the flags.
    pub(crate) fn new(option: &str, detail: impl Into<String>) -> Self {
        Self { option: option.to_owned(), detail: detail.into(), at: WrittenAt::Flag(option.to_owned()) }
    }

    /// The mistake and the next step, for people.
    pub fn parts(&self) -> (String, Option<&str>) {
        let (mistake, step) = match self.detail.split_once("; ") {
            Some((mistake, step)) => (mistake, Some(step)),
            None => (self.detail.as_str(), None),
        };
        (format!("option `{}`: {mistake}", self.option), step)
    }

    pub(crate) fn at(self, at: WrittenAt) -> Self {
        Self { at, ..self }
    }
}

fn one_sentence(errors: &[OptionError]) -> String {
    let errors: Vec<_> = errors.iter().map(OptionError::to_string).collect();
    errors.join("; ")
}
