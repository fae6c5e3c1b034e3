//! Variables that set single values: `LLAMA_WARDEN_<SECTION>__<KEY>`, upper case, `_` for `-`.

use llama_warden_config_source::Environment;

use crate::toml_tree::{TomlData, TomlNode, TomlTable, join};
use llama_warden_located_toml::{ConfigProblem, Location};

/// Sections of named tables, which have no single values to set.
const OUT_OF_REACH: [&str; 4] = ["servers", "profiles", "peers", "extensions"];

/// Lays the overrides over the tree of the file, and says which cannot be used.
///
/// Names without `__`, such as `LLAMA_WARDEN_CONFIG`, are no overrides.
pub fn apply(environment: &Environment, root: &mut TomlNode) -> Vec<ConfigProblem> {
    let TomlData::Table(sections) = &mut root.data else { return Vec::new() };
    let mut problems = Vec::new();
    for (name, value) in environment.iter() {
        let Some(name) = name.to_str() else { continue };
        let Some((section, key)) = name.strip_prefix("LLAMA_WARDEN_").and_then(|rest| rest.split_once("__")) else {
            continue;
        };
        let location = Location::Variable(name.into());
        let [section, key] = [section, key].map(|part| part.to_ascii_lowercase().replace('_', "-"));
        if OUT_OF_REACH.contains(&section.as_str()) {
            let message = format!("`{section}` cannot be set by an environment variable");
            problems.push(ConfigProblem::error(&location, message, "set it in the configuration file"));
        } else if let Some(value) = value.to_str() {
            set(sections, &section, key, value, &location);
        } else {
            problems.push(ConfigProblem::error(&location, "the value is not UTF-8", "write it in UTF-8"));
        }
    }
    problems
}

/// Sets one key. A section that is no table stays as it is; reading it reports the problem.
fn set(sections: &mut TomlTable, section: &str, key: String, value: &str, location: &Location) {
    let node = |path: String, data| TomlNode { path, location: location.clone(), data };
    let new = || (location.clone(), node(section.to_owned(), TomlData::Table(TomlTable::new())));
    let (_, table) = sections.entry(section.to_owned()).or_insert_with(new);
    if let TomlData::Table(keys) = &mut table.data {
        let value = node(join(section, &key), TomlData::Untyped(value.to_owned()));
        keys.insert(key, (location.clone(), value));
    }
}
