//! `[extensions.NAME]` reaches a component as it is written.

#![expect(clippy::panic, clippy::unwrap_used, reason = "tests end by panicking")]

use llama_warden_config::{ConfigSource, Configuration, Environment, Fleet, HostEnvironment};

const PAGER: &str =
    "[extensions.pager]\nfile = 'calls'\nlevels = [1, 2.5]\nsince = 2026-01-31\ninner = { on = true }\n";

fn parse(text: &str) -> Configuration {
    let source = ConfigSource::text("/", text);
    Configuration::parse(&source, &Environment::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn problem_and_help(text: &str, environment: &Environment) -> (String, String) {
    let problems = Configuration::parse(&ConfigSource::text("/", text), environment).unwrap_err();
    let [problem] = problems.0.as_slice() else { panic!("not one problem: {problems}") };
    (problem.to_string(), problem.help.clone().unwrap_or_default())
}

#[test]
fn a_table_is_handed_over_as_it_is_written() {
    let configuration = parse(PAGER);
    let expected: toml::Table = PAGER.parse().unwrap();
    assert_eq!(configuration.extension("pager"), expected["extensions"]["pager"].as_table());
    assert_eq!(configuration.extension("other"), None);
}

#[test]
fn a_component_reads_its_keys_into_its_own_type() {
    #[derive(serde::Deserialize)]
    struct Settings {
        file: String,
        levels: Vec<f64>,
    }
    let configuration = parse("[extensions.pager]\nfile = 'calls'\nlevels = [1.0, 2.5]\nunknown = 'ours to judge'");
    let settings: Settings = configuration.extension("pager").unwrap().clone().try_into().unwrap();
    assert_eq!((settings.file.as_str(), settings.levels.as_slice()), ("calls", &[1.0, 2.5][..]));
}

#[test]
fn a_key_that_its_component_does_not_take_is_told_with_its_place() {
    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        port: u16,
    }
    for (table, expected) in [
        ("port = 'x'", "configuration:3:8: [extensions.pager]: invalid type"),
        ("port = 1\nprot = 2", "configuration:4:1: [extensions.pager]: unknown field `prot`"),
        ("inner = {}", "configuration:3:1: [extensions.pager]: unknown field `inner`"),
        ("", "configuration:2:1: [extensions.pager]: missing field `port`"),
    ] {
        let configuration = parse(&format!("[stop]\n[extensions.pager]\n{table}\n"));
        let problem = configuration.extension_settings::<Settings>("pager").unwrap_err();
        assert!(problem.to_string().starts_with(expected), "{problem}");
        // What a daemon keeps knows the places, too.
        let kept = configuration.dedup(None, &HostEnvironment { cpus: 1 }, &Fleet::default());
        assert_eq!(kept.extension_settings::<Settings>("pager").unwrap_err(), problem);
    }
    let right = parse("[extensions.pager]\nport = 7\n");
    assert_eq!(right.extension_settings::<Settings>("pager").unwrap().unwrap().port, 7);
    assert!(right.extension_settings::<Settings>("other").unwrap().is_none());
    assert_eq!(right.extension_place("pager").unwrap().to_string(), "configuration:1:1");
}

#[test]
fn every_extension_is_named_with_its_place() {
    let configuration = parse("[extensions.pager]\n[extensions.archive]\n");
    let named: Vec<String> = configuration.extensions().map(|(name, place)| format!("{name} at {place}")).collect();
    assert_eq!(named, ["archive at configuration:2:1", "pager at configuration:1:1"]);
    assert_eq!(parse("").extensions().count(), 0);
}

#[test]
fn what_is_no_table_is_told_with_its_place_and_a_next_step() {
    let none = Environment::default();
    for (text, expected) in [
        ("[extensions]\npager = 'file'", "configuration:2:9: `extensions.pager` must be a table, not a string"),
        ("[[extensions.pager]]\nfile = 'a'", ":1:1: `extensions.pager` must be a table, not an array"),
    ] {
        let (problem, help) = problem_and_help(text, &none);
        assert!(problem.contains(expected), "{problem}");
        assert_eq!(help, "write [extensions.pager] and the keys of the component below it");
    }
    let (problem, help) = problem_and_help("extensions = 1", &none);
    assert_eq!(
        (problem.as_str(), help.as_str()),
        ("configuration:1:14: `extensions` must be a table, not an integer", "write a table")
    );
    let variables = [("LLAMA_WARDEN_EXTENSIONS__PAGER", "x")].into_iter().collect();
    let (problem, _) = problem_and_help("", &variables);
    assert!(problem.contains("`extensions` cannot be set by an environment variable"), "{problem}");
}

#[test]
fn a_change_of_an_extension_alone_takes_effect_when_the_daemon_starts_again() {
    let before = parse(PAGER).dedup(None, &HostEnvironment { cpus: 1 }, &Fleet::default());
    assert_eq!(before.changes_at_restart(&parse(PAGER)), [""; 0]);
    assert_eq!(before.changes_at_restart(&parse(&PAGER.replace("calls", "others"))), ["[extensions.pager]"]);
    assert_eq!(
        before.changes_at_restart(&parse("[extensions.archive]")),
        ["[extensions.archive]", "[extensions.pager]"]
    );
    let both = format!("[start]\nmax-concurrent = 2\n{PAGER}more = 1");
    assert_eq!(before.changes_at_restart(&parse(&both)), ["[start]", "[extensions.pager]"]);
}
