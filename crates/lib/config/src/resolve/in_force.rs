//! Every value that is in force, as text, and where it comes from: for `config show`.

use serde::Serialize;

use crate::file::env_overrides;
use crate::file::toml_tree::{TomlData, TomlNode};
use crate::problem::{ConfigProblems, Layer, Location};
use crate::resolve::configuration::{Configuration, built_in_tree, user_tree};
use llama_warden_config_source::{ConfigSource, Environment};
use llama_warden_support::{REDACTED, is_secret_option, masked_arguments, masked_variable};

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
            value: text(name_in(&lower.path), &lower.data),
            from: origin(&lower.location),
        }),
    }
}

/// The last part of a path, by which a value may be a secret. `env-pass` is a list of names and only sounds like one.
fn name_in(path: &str) -> &str {
    path.rsplit('.').next().filter(|name| *name != "env-pass").unwrap_or_default()
}

fn origin(location: &Location) -> String {
    match location {
        Location::Text { document, .. } if document.layer == Layer::BuiltIn => "built-in".to_owned(),
        place => place.to_string(),
    }
}

/// A value as TOML, without secrets: those of an option or a variable called `name`, and those in a list of arguments.
fn text(name: &str, data: &TomlData) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    match data {
        TomlData::Table(entries) => {
            let entry =
                |(key, (_, node)): (&String, &(Location, TomlNode))| format!("{key} = {}", text(key, &node.data));
            format!("{{ {} }}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        TomlData::String(value) | TomlData::Untyped(value) => match masked_variable(name, value) {
            masked if masked == REDACTED => masked.into_owned(),
            masked => quoted(&masked),
        },
        _ if is_secret_option(name) => REDACTED.to_owned(),
        TomlData::Array(items) => {
            let argument = |item: &TomlNode| match &item.data {
                TomlData::String(argument) => Some(argument.clone()),
                _ => None,
            };
            let texts: Option<Vec<String>> = items.iter().map(argument).collect();
            let items: Vec<String> = match texts {
                Some(arguments) => masked_arguments(arguments).map(|argument| quoted(&argument)).collect(),
                None => items.iter().map(|item| text("", &item.data)).collect(),
            };
            format!("[{}]", items.join(", "))
        }
        TomlData::Integer(number) => number.to_string(),
        TomlData::Float(number) => toml::Value::from(*number).to_string(),
        TomlData::Boolean(value) => value.to_string(),
        TomlData::Datetime(time) => time.to_string(),
    }
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
        let file = "[daemon]\nlisten = '127.0.0.1:1'\n[[servers]]\nmodel = 'a.gguf'\nenv = { HF_TOKEN = 'hf_x', P = 'http://u:pw@h' }\n\
                    args = ['--api-key', 'sk-1', '--x=http://u:pw@h']\n[flags]\napi-key = 12\n";
        for (key, expected, from) in [
            ("daemon.listen", "\"127.0.0.1:1\"", "configuration:2:10"),
            ("llama-server.env-pass", "[]", "built-in"),
            ("stop.grace", "\"5s\"", "LLAMA_WARDEN_STOP__GRACE"),
            ("flags.ctx-size", "32768", "built-in"),
            ("servers[0].model", "\"a.gguf\"", "configuration:4:9"),
            ("servers[0].env.HF_TOKEN", "[redacted]", "configuration:5:20"),
            ("servers[0].env.P", "\"http://[redacted]@h\"", "configuration:5:32"),
            ("servers[0].args", "[\"--api-key\", \"[redacted]\", \"--x=http://[redacted]@h\"]", "configuration:6:8"),
            ("flags.api-key", "[redacted]", "configuration:8:11"),
        ] {
            assert_eq!(value(file, key), Some((expected.to_owned(), from.to_owned())), "{key}");
        }
    }
}
