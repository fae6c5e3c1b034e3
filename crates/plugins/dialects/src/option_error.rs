//! The error of this crate: an option with which no server can be started.

/// An option that cannot be passed to a build. Its text never contains the option's value, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("option `{option}`: {detail}")]
pub struct OptionError {
    /// The option's long name without dashes, or the key of the configuration.
    pub option: String,
    /// The mistake, with the next step.
    pub detail: String,
}

impl OptionError {
    pub(crate) fn new(option: &str, detail: impl Into<String>) -> Self {
        Self { option: option.to_owned(), detail: detail.into() }
    }
}
