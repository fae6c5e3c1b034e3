//! The values of options as arguments, and the options that are never dropped.

use llama_warden_config::FlagValue;

/// Options that protect a server. A server whose build does not understand one of them is not started.
const PROTECTING: [&str; 2] = ["api-key", "ssl-"];

/// The detail of the error for a protecting option that a build does not list.
pub(crate) const PROTECTION_UNLISTED: &str = "this build does not list it, and it is never dropped since it protects";

/// Whether the option `name` protects a server.
pub(crate) fn protects(name: &str) -> bool {
    PROTECTING.iter().any(|prefix| name.starts_with(prefix))
}

/// The arguments for an option under its own name: a switch that is off becomes `--no-name`, several values are repeated.
pub(crate) fn as_written(name: &str, value: &FlagValue) -> Vec<String> {
    match value {
        FlagValue::Switch(true) => vec![format!("--{name}")],
        FlagValue::Switch(false) => match name.strip_prefix("no-") {
            Some(positive) => vec![format!("--{positive}")],
            None => vec![format!("--no-{name}")],
        },
        FlagValue::Integer(_) | FlagValue::Float(_) | FlagValue::Text(_) | FlagValue::Many(_) => {
            texts(value).into_iter().flat_map(|text| [format!("--{name}"), text]).collect()
        }
    }
}

/// The values as text, one per repetition of the option.
pub(crate) fn texts(value: &FlagValue) -> Vec<String> {
    match value {
        FlagValue::Switch(on) => vec![on.to_string()],
        FlagValue::Integer(number) => vec![number.to_string()],
        FlagValue::Float(number) => vec![number.to_string()],
        FlagValue::Text(text) => vec![text.clone()],
        FlagValue::Many(texts) => texts.clone(),
    }
}
