//! Checks which crates of the workspace depend on which.
//!
//! The table is the design: a component knows the events, the state and the bus, never another component, its tests included.
//! A new row or name is a reviewed change. The folder of a crate is its kind, and no row may go against [`KINDS`].

use toml::{Table, Value};

use super::{Checkout, Source, Violation};

const RULE: &str = "crate edges";

/// The beginning of package names; only the binary's package is not named by this and its folder.
const PREFIX: &str = "llama-warden-";

/// A crate and the crates of the workspace that it may use, by their short names.
struct Row {
    name: &'static str,
    uses: Vec<&'static str>,
    /// Further crates that its tests may use.
    tests_use: Vec<&'static str>,
}

/// The folders below `crates/`, and those whose crates each may use; its tests may use tools from `dev` too.
const KINDS: [(&str, &[&str]); 6] = [
    ("core", &["core", "lib"]),
    ("components", &["core", "plugins", "lib"]),
    ("plugins", &["core", "plugins", "lib"]),
    ("lib", &["core", "lib"]),
    ("bin", &["core", "components", "plugins", "lib", "bin", "dev"]),
    ("dev", &["core", "components", "plugins", "lib", "dev"]),
];

/// The crates, one a line, and behind the colon those that each may use; behind the plus, further ones for its tests. The
/// program, `llama-warden`, also uses what a compiled plug-in needs: types of events, config and detectors.
const TABLE: &str = "
    events:
    state: events
    requests: events state
    bus: events state requests
    api-types: events state requests
    client: events api-types
    component: events state bus config + component-kit
    support:
    http-server: support
    body-scan:
    gates: events
    keys: located-toml support
    slot-cache: events body-scan
    slot-keeper: events state bus component config probe slot-cache support traffic
    traffic: events state support
    held-body: body-scan support traffic
    server-link: held-body probe
    upstream: events held-body probe server-link support traffic
    targets: config traffic
    procfs:
    processes: events procfs support
    state-files: events requests support
    located-toml:
    config-source: located-toml support
    fleet: events support
    config-file: events located-toml config-source fleet
    config: events located-toml config-source config-file fleet support
    peers: events api-types client fleet support
    plugin-files: events support
    dialects: events support config plugin-files
    detectors: events requests plugin-files
    catalog: events + tiny-gguf
    exit: events component config api-types
    inventory: events exit config catalog support state-files api-types + tiny-gguf
    memory: events procfs config catalog + tiny-gguf
    probe: support config
    backoff: events config
    otlp-wire:
    room: events config memory
    component-kit: events state bus component config support
    launcher: events state bus component support procfs processes state-files config plugin-files detectors dialects + component-kit
    readiness: events state requests bus component support config plugin-files detectors probe + component-kit
    terminator: events state bus component config + component-kit
    supervisor: events state bus component support config memory backoff room state-files + component-kit
    health: events state bus component support procfs config probe + component-kit
    canary: events state bus component support config memory probe + component-kit
    hooks: events state bus component support processes config dialects + component-kit
    dashboard: api-types
    api: events state bus component config support procfs memory api-types http-server peers + component-kit client
    metrics: events state requests bus component support procfs config probe api-types traffic + component-kit
    telemetry: events state bus component support traffic otlp-wire + component-kit
    event-log: events state bus component support + component-kit
    router: events state bus component support config probe http-server body-scan held-body server-link gates keys slot-keeper traffic targets upstream + component-kit
    systemd: events state bus component + component-kit
    monitoring: + events metrics
    schema-gen: events config dialects detectors api metrics dashboard monitoring
    recorded-builds:
    stand-in: recorded-builds + test-parts tiny-gguf
    tiny-gguf:
    fuzz-targets: events state bus component support body-scan api-types config catalog memory located-toml processes state-files \
        plugin-files detectors dialects api telemetry event-log component-kit
    fuzz: fuzz-targets
    daemon: exit inventory events state bus component support procfs processes state-files config catalog plugin-files dialects detectors launcher \
        readiness terminator supervisor memory health hooks canary api api-types client dashboard peers metrics router systemd telemetry event-log keys traffic + tiny-gguf component-kit
    terminal: exit inventory daemon events state bus support memory api-types telemetry + component-kit
    builds: exit inventory terminal events bus component support procfs memory config plugin-files detectors dialects launcher \
        readiness terminator + component-kit
    connect: exit inventory terminal daemon events config api-types client + state component-kit
    top: exit connect terminal events state support memory api-types client + component-kit
    doctor: exit inventory connect builds terminal daemon dialects procfs state-files memory config client
    import: fleet
    plugin-commands: exit inventory builds connect terminal daemon events component support config plugin-files detectors dialects launcher terminator hooks
    cli: exit inventory connect doctor top import plugin-commands builds terminal daemon events state bus support config catalog plugin-files api-types client \
        detectors dialects launcher event-log keys tiny-gguf telemetry + component-kit
    llama-warden: cli daemon bus component config detectors events launcher stand-in state support
    tests: events state api-types stand-in test-parts tiny-gguf
    bench: tiny-gguf test-parts measured
    measured: tiny-gguf test-parts
    test-parts:
    model: events state bus component config memory room probe readiness terminator supervisor health component-kit
    xtask: tiny-gguf test-parts
";

fn rows() -> impl Iterator<Item = Row> {
    TABLE.lines().filter_map(|line| {
        let (name, used) = line.trim().split_once(':')?;
        let (uses, tests_use) = used.split_once('+').unwrap_or((used, ""));
        let [uses, tests_use] = [uses, tests_use].map(|names| names.split_whitespace().collect());
        Some(Row { name, uses, tests_use })
    })
}

/// A crate's manifest, by its place.
#[derive(Debug, Clone, Copy)]
struct Manifest<'a> {
    name: &'a str,
    /// The folder below `crates/`, empty for a crate that lies elsewhere.
    kind: &'a str,
    source: &'a Source,
}

impl<'a> Manifest<'a> {
    fn of(source: &'a Source) -> Option<Self> {
        let folder = source.path.strip_suffix("/Cargo.toml")?;
        let (kind, name) = match folder.strip_prefix("crates/") {
            Some(place) => place.split_once('/').unwrap_or(("", place)),
            None => ("", folder),
        };
        (!name.contains('/')).then_some(Self { name, kind, source })
    }
}

/// Finds the edges that the table or the kinds of crates do not allow, crates in other folders, crates without a row, and rows
/// without a crate.
pub fn check(checkout: &Checkout) -> Vec<Violation> {
    let mut violations = Vec::new();
    let manifests: Vec<Manifest<'_>> = checkout.sources.iter().filter_map(Manifest::of).collect();
    for manifest in &manifests {
        let path = &manifest.source.path;
        if path.starts_with("crates/") && !KINDS.iter().any(|(kind, _)| *kind == manifest.kind) {
            let kinds = KINDS.map(|(kind, _)| kind).join(", ");
            violations.push(Violation::of_file(path, RULE, format!("move the crate into crates/ and one of {kinds}")));
        }
        match rows().find(|row| row.name == manifest.name) {
            Some(row) => violations.extend(check_manifest(&row, manifest, &manifests)),
            None => {
                let advice = format!("give `{}` a row in xtask/src/tidy/edges.rs", manifest.name);
                violations.push(Violation::of_file(path, RULE, advice));
            }
        }
    }
    for row in rows().filter(|row| !manifests.iter().any(|manifest| manifest.name == row.name)) {
        let advice = format!("remove the row of `{}`, which is no crate", row.name);
        violations.push(Violation::of_file("xtask/src/tidy/edges.rs", RULE, advice));
    }
    violations
}

fn check_manifest(row: &Row, manifest: &Manifest<'_>, all: &[Manifest<'_>]) -> Vec<Violation> {
    let Source { path, text } = manifest.source;
    let table = match text.parse::<Table>() {
        Ok(table) => table,
        Err(error) => return vec![Violation::of_file(path, RULE, format!("fix the manifest: {error}"))],
    };
    let mut sections: Vec<&Table> = vec![&table];
    sections.extend(
        table.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values).filter_map(Value::as_table),
    );
    let kinds = KINDS.iter().find(|(kind, _)| *kind == manifest.kind).map(|(_, kinds)| *kinds);
    let mut violations = Vec::new();
    for (key, allowed, is_for_tests) in [
        ("dependencies", vec![&row.uses], false),
        ("build-dependencies", vec![&row.uses], false),
        ("dev-dependencies", vec![&row.uses, &row.tests_use], true),
    ] {
        let edges = sections.iter().filter_map(|section| section.get(key)?.as_table()).flat_map(Table::keys);
        for used in edges.filter_map(|package| short_name(package)) {
            let kind = all.iter().find(|other| other.name == used).map_or("", |other| other.kind);
            let is_of_kind = |kinds: &[&str]| kind.is_empty() || kinds.contains(&kind) || is_for_tests && kind == "dev";
            let advice = if !allowed.iter().any(|names| names.contains(&used)) {
                format!("`{}` may not use `{used}` in [{key}]: pass events or commands over the bus", row.name)
            } else if !kinds.is_none_or(is_of_kind) {
                format!("a crate in crates/{} may not use one in crates/{kind} (`{used}`) in [{key}]", manifest.kind)
            } else {
                continue;
            };
            violations.push(Violation::of_line(path, line_of(text, used), RULE, advice));
        }
    }
    violations
}

/// The short name of a package of the workspace; `None` for any other package.
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
        assert!(
            violations("crates/dev/novelty", "").iter().any(|violation| violation.advice.contains("`novelty` a row"))
        );
    }

    #[test]
    fn a_row_without_a_crate_is_found() {
        assert_eq!(check(&Checkout::default()).len(), rows().count());
    }

    #[test]
    fn every_crate_lies_in_a_folder_of_its_kind() {
        for folder in ["crates/bus", "crates/other/bus"] {
            let found = violations(folder, "");
            assert!(found.iter().any(|violation| violation.advice.contains("core, components")), "{folder}: {found:?}");
        }
        assert_eq!(violations("crates/core/bus", ""), []);
    }

    #[test]
    fn the_kind_of_a_crate_restricts_its_row() {
        let edge = "[dependencies]\nllama-warden-catalog.workspace = true\n";
        let used = |kind| {
            let used = format!("crates/{kind}/catalog/Cargo.toml");
            let found = check(&Checkout::of(&[("crates/lib/memory/Cargo.toml", edge), (&used, "")]));
            found.into_iter().filter(|violation| violation.path == "crates/lib/memory/Cargo.toml").collect::<Vec<_>>()
        };
        assert_eq!(used("lib"), []);
        assert!(used("components")[0].advice.starts_with("a crate in crates/lib may not use one in crates/components"));
    }

    #[test]
    fn the_workspace_and_the_examples_are_no_crates() {
        let manifest = |path: &str| {
            let source = Source { path: path.to_owned(), text: String::new() };
            Manifest::of(&source).map(|manifest| (manifest.kind.to_owned(), manifest.name.to_owned()))
        };
        assert_eq!(manifest("Cargo.toml"), None);
        assert_eq!(manifest("examples/custom-component/Cargo.toml"), None);
        assert_eq!(manifest("crates/core/bus/Cargo.toml"), Some(("core".to_owned(), "bus".to_owned())));
        assert_eq!(manifest("xtask/Cargo.toml"), Some((String::new(), "xtask".to_owned())));
    }
}
