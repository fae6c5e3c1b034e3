//! Which of our crates may depend on which.
//!
//! The table is the design: a component knows the words, the state and the bus, never another component, its tests included.
//! A new row or name is a reviewed change.

use toml::{Table, Value};

use super::{Checkout, Source, Violation};

const RULE: &str = "crate edges";

/// What all packages but the binary's are called before their folder's name.
const PREFIX: &str = "llama-warden-";

/// A crate and the crates of ours that it may use, all by their short names.
struct Row {
    name: &'static str,
    uses: &'static [&'static str],
    /// Beside those, for its tests only.
    tests_use: &'static [&'static str],
}

const fn row(name: &'static str, uses: &'static [&'static str], tests_use: &'static [&'static str]) -> Row {
    Row { name, uses, tests_use }
}

const KIT: &[&str] = &["component-kit"];

const ROWS: [Row; 27] = [
    row("events", &[], &[]),
    row("state", &["events"], &[]),
    row("bus", &["events", "state"], &[]),
    row("component", &["events", "state", "bus", "config"], &[]),
    row("support", &[], &[]),
    row("procfs", &[], &[]),
    row("config", &["events"], &[]),
    row("plugin-files", &["events"], &[]),
    row("catalog", &["events"], &["tiny-gguf"]),
    row("memory", &["events", "config", "catalog"], &["tiny-gguf"]),
    row("probe", &["support", "config"], &[]),
    row("component-kit", &["events", "state", "bus", "component"], &[]),
    row("launcher", &["events", "state", "bus", "component", "support", "config", "plugin-files", "procfs"], KIT),
    row("readiness", &["events", "state", "bus", "component", "support", "config", "plugin-files", "probe"], KIT),
    row("terminator", &["events", "state", "bus", "component", "config"], KIT),
    row("supervisor", &["events", "state", "bus", "component", "support", "config", "memory"], KIT),
    row("health", &["events", "state", "bus", "component", "support", "config", "probe", "procfs"], KIT),
    row("hooks", &["events", "state", "bus", "component", "support", "config"], KIT),
    row("api", &["events", "state", "bus", "component", "support", "config"], KIT),
    row("metrics", &["events", "state", "bus", "procfs"], KIT),
    row("telemetry", &["events", "state", "bus", "component", "support"], KIT),
    row("schema-gen", &["events", "config", "launcher", "readiness", "api", "metrics"], &[]),
    row("stand-in", &[], &["tiny-gguf"]),
    row("tiny-gguf", &[], &[]),
    row(
        "llama-warden",
        &[
            "events",
            "state",
            "bus",
            "component",
            "support",
            "config",
            "catalog",
            "plugin-files",
            "procfs",
            "launcher",
            "readiness",
            "terminator",
            "supervisor",
            "memory",
            "health",
            "hooks",
            "api",
            "metrics",
            "telemetry",
            "stand-in",
            "tiny-gguf",
        ],
        &[],
    ),
    row("tests", &["events", "state", "stand-in", "tiny-gguf"], &[]),
    row("xtask", &["tiny-gguf"], &[]),
];

/// Finds the edges that the table does not allow, the crates without a row, and the rows without a crate.
pub fn check(checkout: &Checkout) -> Vec<Violation> {
    let mut violations = Vec::new();
    let manifests: Vec<(&str, &Source)> =
        checkout.sources.iter().filter_map(|source| Some((crate_of(&source.path)?, source))).collect();
    for (name, manifest) in &manifests {
        match ROWS.iter().find(|row| row.name == *name) {
            Some(row) => violations.extend(check_manifest(row, manifest)),
            None => {
                let advice = format!("give `{name}` a row in xtask/src/tidy/edges.rs");
                violations.push(Violation::of_file(&manifest.path, RULE, advice));
            }
        }
    }
    for row in ROWS.iter().filter(|row| !manifests.iter().any(|(name, _)| *name == row.name)) {
        let advice = format!("remove the row of `{}`, which is no crate", row.name);
        violations.push(Violation::of_file("xtask/src/tidy/edges.rs", RULE, advice));
    }
    violations
}

/// The short name of the crate whose manifest this is.
fn crate_of(path: &str) -> Option<&str> {
    let folder = path.strip_suffix("/Cargo.toml")?;
    let name = match folder.strip_prefix("crates/") {
        Some(place) => place.split_once('/')?.1,
        None => folder,
    };
    (!name.contains('/')).then_some(name)
}

fn check_manifest(row: &Row, manifest: &Source) -> Vec<Violation> {
    let table = match manifest.text.parse::<Table>() {
        Ok(table) => table,
        Err(error) => return vec![Violation::of_file(&manifest.path, RULE, format!("mend the manifest: {error}"))],
    };
    let mut sections: Vec<&Table> = vec![&table];
    sections.extend(
        table.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values).filter_map(Value::as_table),
    );
    let mut violations = Vec::new();
    for (key, allowed) in [
        ("dependencies", vec![row.uses]),
        ("build-dependencies", vec![row.uses]),
        ("dev-dependencies", vec![row.uses, row.tests_use]),
    ] {
        let edges = sections.iter().filter_map(|section| section.get(key)?.as_table()).flat_map(Table::keys);
        for used in edges.filter_map(|package| short_name(package)) {
            if !allowed.iter().any(|names| names.contains(&used)) {
                let advice =
                    format!("`{}` may not use `{used}` in [{key}]: pass events or commands over the bus", row.name);
                violations.push(Violation::of_line(&manifest.path, line_of(&manifest.text, used), RULE, advice));
            }
        }
    }
    violations
}

/// The short name of a package of ours.
fn short_name(package: &str) -> Option<&str> {
    match package {
        "llama-warden" | "xtask" => Some(package),
        other => other.strip_prefix(PREFIX),
    }
}

fn line_of(text: &str, used: &str) -> usize {
    let is_edge = |line: &str| line.split(['.', ' ', '=']).next().and_then(short_name) == Some(used);
    text.lines().position(is_edge).map_or(0, |index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(folder: &str, manifest: &str) -> Vec<Violation> {
        let path = format!("{folder}/Cargo.toml");
        check(&Checkout::of(&[(&path, manifest)])).into_iter().filter(|violation| violation.path == path).collect()
    }

    #[test]
    fn an_allowed_edge_passes() {
        let manifest = "[dependencies]\nllama-warden-bus.workspace = true\nserde = \"1\"\n\
                        [dev-dependencies]\nllama-warden-component-kit.workspace = true\n";
        assert_eq!(violations("crates/components/launcher", manifest), []);
    }

    #[test]
    fn a_component_may_not_use_another_even_in_its_tests() {
        for section in ["dependencies", "dev-dependencies", "build-dependencies", "target.'cfg(unix)'.dependencies"] {
            let found = violations(
                "crates/components/launcher",
                &format!("[{section}]\nllama-warden-readiness.workspace = true\n"),
            );
            assert_eq!(found.len(), 1, "{section}");
            assert_eq!(found[0].line, 2);
        }
    }

    #[test]
    fn a_tool_for_tests_may_not_be_used_outside_them() {
        let manifest = "[dependencies]\nllama-warden-component-kit.workspace = true\n";
        assert_eq!(violations("crates/components/launcher", manifest).len(), 1);
    }

    #[test]
    fn a_crate_without_a_row_is_found() {
        assert!(violations("crates/novelty", "").iter().any(|violation| violation.advice.contains("`novelty` a row")));
    }

    #[test]
    fn a_row_without_a_crate_is_found() {
        assert_eq!(check(&Checkout::default()).len(), ROWS.len());
    }

    #[test]
    fn the_workspace_manifest_is_no_crate() {
        assert_eq!(crate_of("Cargo.toml"), None);
        assert_eq!(crate_of("examples/own-component/Cargo.toml"), None);
        assert_eq!(crate_of("crates/core/bus/Cargo.toml"), Some("bus"));
    }
}
