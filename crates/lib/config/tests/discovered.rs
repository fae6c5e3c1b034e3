//! Models that were found become servers beside those of the file.

#![expect(clippy::unwrap_used, reason = "tests end by panicking")]

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::Arc;

use llama_warden_config::{
    ConfigProblems, ConfigSource, Configuration, Discovered, DiscoveredServer, Environment, FlagOrigin, FlagValue,
    HostEnvironment,
};

const HOST: HostEnvironment = HostEnvironment { cpus: 4 };

const TEXT: &str = r#"
[llama-server]
binary = "./llama-server"
[flags]
ctx-size = 1000
[stop]
grace = "20s"
[models]
dirs = ["models"]
[[servers]]
id = "written"
model = "/models/written.gguf"
[profiles.small]
servers = [{ tier = "Q2_K*" }]
flags = { ctx-size = 2000, parallel = 2 }
[profiles.named]
servers = ["found"]
"#;

fn parse(text: &str) -> Result<Configuration, ConfigProblems> {
    Configuration::parse(&ConfigSource::text("/configuration", text), &Environment::default())
}

fn found(id: &str, port: u16) -> DiscoveredServer {
    DiscoveredServer {
        id: id.parse().unwrap(),
        model: format!("/models/{id}.gguf").into(),
        port: NonZeroU16::new(port).unwrap(),
        enabled: false,
        display_name: format!("The {id}"),
        tier: Some("Q2_K_S".to_owned()),
        thinking: true,
        flags: [("mmproj".to_owned(), FlagValue::Text("/models/eye.gguf".to_owned()))].into(),
    }
}

fn enabled(configuration: &Configuration, profile: &str) -> Vec<String> {
    let fleet = configuration.resolve(Some(profile), &HOST).unwrap();
    fleet.iter().filter(|spec| spec.enabled).map(|spec| spec.id.to_string()).collect()
}

#[test]
fn a_found_model_is_a_server_by_the_sections_of_the_file() {
    let discovered = Discovered { servers: vec![found("found", 9000)], ..Discovered::default() };
    let configuration = parse(TEXT).unwrap().with_discovered(discovered).unwrap();
    let fleet = configuration.resolve(None, &HOST).unwrap();
    let spec = fleet.get("found").unwrap();
    assert_eq!((&*spec.display_name, spec.port, spec.enabled, spec.thinking), ("The found", 9000, false, true));
    assert_eq!((spec.tier.as_deref(), spec.stop.grace.as_secs()), (Some("Q2_K_S"), 20));
    assert_eq!(spec.binary.to_str(), Some("/configuration/llama-server"));
    assert_eq!(spec.model, PathBuf::from("/models/found.gguf"));
    assert_eq!(spec.flags["ctx-size"].value, FlagValue::Integer(1000));
    let projector = &spec.flags["mmproj"];
    assert_eq!((&projector.value, projector.origin), (&FlagValue::Text("/models/eye.gguf".into()), FlagOrigin::User));
    assert!(fleet.get("written").unwrap().enabled, "what is written stays as it was");
}

#[test]
fn profiles_mean_found_models_by_id_and_by_tier() {
    let discovered = Discovered { servers: vec![found("found", 9000)], ..Discovered::default() };
    let configuration = parse(TEXT).unwrap().with_discovered(discovered).unwrap();
    assert_eq!(enabled(&configuration, "small"), ["found"]);
    assert_eq!(enabled(&configuration, "named"), ["found"]);
    assert_eq!(enabled(&configuration, ""), ["written"]);
    let fleet = configuration.resolve(Some("small"), &HOST).unwrap();
    assert_eq!(fleet.get("found").unwrap().flags["parallel"].value, FlagValue::Integer(2));
}

#[test]
fn a_written_server_without_a_tier_has_that_of_its_model() {
    let text = "[[servers]]\nid='a'\nmodel='/m/a.gguf'\n[[servers]]\nid='b'\nmodel='/m/b.gguf'\ntier='own'\n\
                [profiles.p]\nservers=[{tier='Q8*'}]\n";
    let tiers = ["a", "b"].map(|name| (format!("/m/{name}.gguf").into(), "Q8_0".to_owned())).into();
    let configuration = parse(text).unwrap().with_discovered(Discovered { tiers, ..Discovered::default() }).unwrap();
    let tiers: Vec<_> = configuration.servers().map(|spec| spec.tier.clone().unwrap()).collect();
    assert_eq!(tiers, ["Q8_0", "own"].map(Arc::<str>::from));
    assert_eq!(enabled(&configuration, "p"), ["a"]);
}

#[test]
fn a_profile_that_means_nothing_that_was_found_is_told_with_its_place() {
    let problems = parse(TEXT).unwrap().with_discovered(Discovered::default()).unwrap_err();
    let lines: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "configuration:14:12: profile `small`: no server has a tier like `Q2_K*`",
            "configuration:17:12: profile `named` names the unknown server `found`",
        ]
    );
    let whole = TEXT.replace("[models]\ndirs = [\"models\"]\n", "");
    let problems = parse(&whole).unwrap_err();
    assert_eq!(problems.0.len(), 1, "an id cannot come from a header: {problems}");
    let source = ConfigSource::text("/configuration", &*whole).with_model_dirs(vec!["/more".into()]);
    let configuration = Configuration::parse(&source, &Environment::default()).unwrap();
    assert_eq!(configuration.model_dirs(), [PathBuf::from("/more")]);
}

#[test]
fn an_id_or_a_port_is_never_given_twice() {
    for (id, port, expected) in [("written", 9000, "another server is called `written`"), ("new", 8001, "port 8001")] {
        let discovered = Discovered { servers: vec![found("found", 9001), found(id, port)], ..Discovered::default() };
        let problems = parse(TEXT).unwrap().with_discovered(discovered).unwrap_err();
        assert!(problems.to_string().contains(expected) && problems.0.len() == 1, "{problems}");
    }
}

#[test]
fn the_program_of_found_models_is_looked_for_too() {
    let text = "[models]\ndirs = ['models']\n";
    let discovered = Discovered { servers: vec![found("found", 9000)], ..Discovered::default() };
    assert!(parse(text).unwrap().warnings().is_empty(), "no server, no program");
    let warnings = parse(text).unwrap().with_discovered(discovered).unwrap().warnings();
    assert!(
        matches!(&warnings[..], [warning] if warning.message.contains("no `llama-server` in PATH")),
        "{warnings:?}"
    );
}
