//! Every value that is in force, as text, and where it comes from: for `config show`.

use serde::Serialize;

use llama_warden_support::{REDACTED, is_secret_name, masked_variable};

use crate::arguments::written_options;
use crate::file::env_overrides;
use crate::file::toml_tree::{TomlData, TomlNode};
use crate::problem::{ConfigProblems, Layer, Location};
use crate::resolve::configuration::{Configuration, built_in_tree, user_tree};
use llama_warden_config_source::ConfigSource;
use llama_warden_config_source::Environment;

/// One value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValueInForce {
    /// Its dotted path, such as `stop.grace` or `servers[0].port`.
    pub key: String,
    /// The value as TOML; a secret is not shown.
    pub value: String,
    /// `built-in`, a place in the file, or a variable.
    pub from: String,
}

/// Every value that a source and the environment put in force over the built-in defaults, by key.
///
/// # Errors
/// Those of [`Configuration::parse`].
pub fn values_in_force(source: &ConfigSource, environment: &Environment) -> Result<Vec<ValueInForce>, ConfigProblems> {
    Configuration::parse(source, environment)?;
    let mut problems = Vec::new();
    let (lower, mut upper) = (built_in_tree(&mut problems), user_tree(source, &mut problems));
    upper.iter_mut().for_each(|upper| problems.extend(env_overrides::apply(environment, upper)));
    let mut values = Vec::new();
    match lower {
        Some(lower) if problems.is_empty() => collect(&lower, upper.as_ref(), &mut values),
        _ => return Err(ConfigProblems(problems)),
    }
    Ok(values)
}

/// Adds the values below `lower`, each replaced by what `upper` says. Tables are merged; arrays are not.
fn collect(lower: &TomlNode, upper: Option<&TomlNode>, values: &mut Vec<ValueInForce>) {
    match (&lower.data, upper.map(|upper| &upper.data)) {
        (TomlData::Table(below), Some(TomlData::Table(above))) => {
            for (key, (_, lower)) in below {
                collect(lower, above.get(key).map(|(_, upper)| upper), values);
            }
            for (_, (_, upper)) in above.iter().filter(|(key, _)| !below.contains_key(*key)) {
                collect(upper, None, values);
            }
        }
        (TomlData::Table(below), None) => below.values().for_each(|(_, node)| collect(node, None, values)),
        (TomlData::Array(items), None) if items.iter().any(|item| matches!(item.data, TomlData::Table(_))) => {
            items.iter().for_each(|item| collect(item, None, values));
        }
        (_, Some(_)) => upper.into_iter().for_each(|upper| collect(upper, None, values)),
        (_, None) => values.push(ValueInForce {
            key: lower.path.clone(),
            value: shown(&lower.path, &lower.data),
            from: origin(&lower.location),
        }),
    }
}

fn origin(location: &Location) -> String {
    match location {
        Location::Text { document, .. } if document.layer == Layer::BuiltIn => "built-in".to_owned(),
        place => place.to_string(),
    }
}

/// A value without its secrets: those of a name, of an option among arguments, and those that are found by their form.
fn shown(path: &str, data: &TomlData) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    if is_secret(path) || is_secret_name(name) {
        return REDACTED.to_owned();
    }
    let mut shown = masked_variable(name, &text(data)).into_owned();
    if let (true, TomlData::Array(items)) = (name == "args", data) {
        let arguments: Vec<String> = items.iter().map(|item| argument(&item.data)).collect();
        for option in written_options(&arguments).filter(|option| is_secret(&option.name)) {
            // A secret may itself look like an option: its position decides.
            let secret = option.value.or_else(|| arguments.get(option.index + 1).map(String::as_str));
            if let Some(secret) = secret.filter(|secret| !secret.is_empty()) {
                shown = shown.replace(secret, REDACTED);
            }
        }
    }
    shown
}

fn argument(data: &TomlData) -> String {
    if let TomlData::String(text) = data { text.clone() } else { text(data) }
}

fn text(data: &TomlData) -> String {
    let joined = |items: Vec<String>| items.join(", ");
    match data {
        TomlData::String(text) | TomlData::Untyped(text) => toml::Value::from(text.as_str()).to_string(),
        TomlData::Integer(number) => number.to_string(),
        TomlData::Float(number) => toml::Value::from(*number).to_string(),
        TomlData::Boolean(value) => value.to_string(),
        TomlData::Datetime(time) => time.to_string(),
        TomlData::Array(items) => format!("[{}]", joined(items.iter().map(|item| text(&item.data)).collect())),
        TomlData::Table(entries) => {
            let entry = |(key, (_, node)): (&String, &(Location, TomlNode))| format!("{key} = {}", text(&node.data));
            format!("{{ {} }}", joined(entries.iter().map(entry).collect()))
        }
    }
}

/// Whether the last part of a path names a secret: an option such as `api-key`, or a variable such as `HF_TOKEN`.
fn is_secret(path: &str) -> bool {
    let name = path.rsplit('.').next().unwrap_or(path).to_ascii_lowercase().replace('_', "-");
    ["key", "token", "secret", "password", "auth", "pass"].iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, key: &str) -> Option<(String, String)> {
        let variables = [("LLAMA_WARDEN_STOP__GRACE", "5s")].into_iter().collect();
        let values = values_in_force(&ConfigSource::text("/srv", text), &variables).expect("valid");
        values.into_iter().find(|value| value.key == key).map(|value| (value.value, value.from))
    }

    #[test]
    fn each_value_is_told_with_the_place_that_it_comes_from() {
        let file = "[daemon]\nlisten = '127.0.0.1:1'\n[[servers]]\nmodel = 'a.gguf'\nenv = { HF_TOKEN = 'hf_x' }\n";
        for (key, expected, from) in [
            ("daemon.listen", "\"127.0.0.1:1\"", "configuration:2:10"),
            ("stop.grace", "\"5s\"", "LLAMA_WARDEN_STOP__GRACE"),
            ("flags.ctx-size", "32768", "built-in"),
            ("servers[0].model", "\"a.gguf\"", "configuration:4:9"),
            ("servers[0].env.HF_TOKEN", "[redacted]", "configuration:5:20"),
        ] {
            assert_eq!(value(file, key), Some((expected.to_owned(), from.to_owned())), "{key}");
        }
    }

    #[test]
    fn a_secret_in_arguments_or_in_a_url_is_not_shown() {
        let file = r#"
            [[servers]]
            model = "a.gguf"
            args = ["--api_key", "sk-1", "--model-draft-url", "https://u:pw@h/x"]
            env = { DATABASE_URL = "postgres://u:pw@h/d", https_proxy = "http://u:pw@p:1" }
        "#;
        for (key, expected) in [
            ("args", r#"["--api_key", "[redacted]", "--model-draft-url", "https://[redacted]@h/x"]"#),
            ("env.DATABASE_URL", "[redacted]"),
            ("env.https_proxy", r#""http://[redacted]@p:1""#),
        ] {
            assert_eq!(
                value(file, &format!("servers[0].{key}")).map(|found| found.0).as_deref(),
                Some(expected),
                "{key}"
            );
        }
    }
}
