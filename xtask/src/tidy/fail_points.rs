//! Fail points: no program that is shipped has them.
//!
//! They exist where debug assertions do. Only the profiles of development have those, and one file alone knows the variable.

use toml::{Table, Value};

use super::{Checkout, Source, Violation};

const RULE: &str = "fail points";

/// The file that compiles them in or out.
const SOURCE: &str = "crates/lib/support/src/fail_point.rs";

/// The variable that names the point at which a process ends, joined from two halves so that this file passes.
const VARIABLE: &str = concat!("LLAMA_WARDEN", "_FAIL_POINT");

/// The profiles that have debug assertions by default.
const DEVELOPMENT: [&str; 2] = ["dev", "test"];
/// The key that gives them to others.
const KEY: &str = "debug-assertions";

/// Finds other sources of the daemon that know the variable, and profiles of what is shipped with debug assertions.
pub fn check(checkout: &Checkout) -> Vec<Violation> {
    checkout
        .sources
        .iter()
        .flat_map(|source| if source.path == "Cargo.toml" { profiles(source) } else { readers(source) })
        .collect()
}

fn readers(source: &Source) -> Vec<Violation> {
    let is_daemon = source.is_rust() && source.path.starts_with("crates/") && !source.path.starts_with("crates/dev/");
    if !is_daemon || source.path == SOURCE {
        return Vec::new();
    }
    let lines = source.text.lines().enumerate().filter(|(_, line)| line.contains(VARIABLE));
    let advice = format!("call `fail_point`; only {SOURCE} reads the variable");
    lines.map(|(index, _)| Violation::of_line(&source.path, index + 1, RULE, advice.clone())).collect()
}

fn profiles(source: &Source) -> Vec<Violation> {
    // cargo refuses a manifest that is not TOML.
    let manifest: Table = source.text.parse().unwrap_or_default();
    let profiles = manifest.get("profile").and_then(Value::as_table);
    let is_shipped = |name: &str, profile: &Value| {
        let parent = profile.get("inherits").and_then(Value::as_str).unwrap_or(name);
        !DEVELOPMENT.contains(&parent) && !DEVELOPMENT.contains(&name)
    };
    let shipped = profiles.into_iter().flatten().filter(|(name, profile)| is_shipped(name, profile));
    let bad = shipped.filter(|(_, profile)| names_key(profile));
    bad.map(|(name, _)| {
        Violation::of_file(&source.path, RULE, format!("take `{KEY}` out of the profile `{name}`, which is shipped"))
    })
    .collect()
}

/// Whether a profile, or a package in it, has the key.
fn names_key(profile: &Value) -> bool {
    let Some(table) = profile.as_table() else { return false };
    table.get(KEY).is_some_and(|value| value.as_bool() != Some(false)) || table.values().any(names_key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&Checkout::of(&[(path, text)])).len()
    }

    #[test]
    fn a_shipped_profile_with_debug_assertions_is_found() {
        let manifest = |profile: &str| found("Cargo.toml", &format!("[workspace]\n{profile}\n"));
        assert_eq!(manifest("[profile.dist]\ninherits = \"release\"\ndebug-assertions = true"), 1);
        assert_eq!(manifest("[profile.release.package.llama-warden-support]\ndebug-assertions = true"), 1);
        assert_eq!(manifest("[profile.dist]\ninherits = \"release\"\ndebug-assertions = false"), 0);
        assert_eq!(manifest("[profile.dev]\ndebug-assertions = true"), 0);
        assert_eq!(manifest("[profile.fast]\ninherits = \"dev\"\ndebug-assertions = true"), 0);
        assert_eq!(manifest("[profile.fast]\ninherits = \"dev\"\nopt-level = 1"), 0);
    }

    #[test]
    fn a_second_reader_of_the_variable_is_found() {
        let line = format!("let point = std::env::var(\"{VARIABLE}\");");
        assert_eq!(found("crates/lib/processes/src/shim.rs", &line), 1);
        assert_eq!(found(SOURCE, &line), 0);
        assert_eq!(found("tests/system/fail_points.rs", &line), 0);
    }
}
