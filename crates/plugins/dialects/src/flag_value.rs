//! The values of options, as text.

use llama_warden_config::FlagValue;

/// Options that protect a server; it does not start without them.
const PROTECTING: [&str; 2] = ["api-key", "ssl-"];

/// The option as it was written, for a build whose help cannot be read.
pub(crate) fn as_written(name: &str, value: &FlagValue) -> Vec<String> {
    match value {
        FlagValue::Switch(true) => vec![format!("--{name}")],
        FlagValue::Switch(false) => vec![format!("--no-{name}")],
        FlagValue::Integer(_) | FlagValue::Float(_) | FlagValue::Text(_) | FlagValue::Many(_) => {
            texts(value).into_iter().flat_map(|text| [format!("--{name}"), text]).collect()
        }
    }
}

/// The values as the configuration writes them.
pub(crate) fn texts(value: &FlagValue) -> Vec<String> {
    match value {
        FlagValue::Switch(on) => vec![on.to_string()],
        FlagValue::Integer(number) => vec![number.to_string()],
        FlagValue::Float(number) => vec![number.to_string()],
        FlagValue::Text(text) => vec![text.clone()],
        FlagValue::Many(texts) => texts.clone(),
    }
}

/// Whether an option protects a server, which does not start without it.
pub(crate) fn protects(name: &str) -> bool {
    PROTECTING.iter().any(|prefix| name.starts_with(prefix))
}
