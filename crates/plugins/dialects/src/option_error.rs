//! The error of an option that cannot be passed.

/// An option that no server can be started with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("option `{option}`: {detail}")]
pub struct OptionError {
    /// The option, or the key of the configuration.
    pub option: String,
    /// Why, with the next step.
    pub detail: String,
}

impl OptionError {
    pub(crate) fn new(option: &str, detail: impl Into<String>) -> Self {
        Self { option: option.to_owned(), detail: detail.into() }
    }
}
