//! The built-in defaults, the template and the schema say the same.

#![expect(clippy::panic, clippy::unwrap_used, reason = "tests end by panicking")]

use std::time::Duration;

use llama_warden_config::{
    ConfigSource, Configuration, Confirm, DEFAULT_TOML, Environment, FlagOrigin, FlagValue, HostEnvironment, OnTimeout,
    RestartPolicy, schema,
};
use llama_warden_events::Signal;
use serde_json::Value as Json;

const COMPLETE: &str = include_str!("fixture/complete.toml");

fn parse(text: &str) -> Configuration {
    let source = ConfigSource::text("/configuration", text);
    Configuration::parse(&source, &Environment::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The template with its commented keys: `#key`, where prose is `# prose`.
fn template() -> String {
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '[') => rest.to_owned(),
        _ => line.to_owned(),
    };
    DEFAULT_TOML.lines().map(|line| uncommented(line) + "\n").collect()
}

fn as_json(toml: &str) -> Json {
    serde_json::to_value(toml.parse::<toml::Table>().unwrap()).unwrap()
}

#[test]
fn without_a_configuration_there_are_no_servers_and_the_documented_defaults() {
    let configuration = parse("");
    let fleet = configuration.resolve(None, &HostEnvironment { cpus: 4 }).unwrap();
    assert!(fleet.is_empty());
    assert_eq!(configuration.daemon().listen.as_ref().unwrap().to_string(), "127.0.0.1:9888");
    assert_eq!(configuration.daemon().state_dir, None);
    assert_eq!(configuration.daemon().shutdown_deadline, Duration::from_secs(30));
    assert_eq!(configuration.logs().ring_bytes, 256 * 1024);
    assert_eq!(configuration.logs().event_log_bytes, Some(64 * 1024 * 1024));
    assert_eq!(configuration.start().max_concurrent, None);
    assert_eq!(configuration.active_profile(None), None);
    assert!(configuration.warnings().is_empty());
}

#[test]
fn a_server_with_a_model_alone_has_every_default() {
    let fleet =
        parse("[[servers]]\nmodel = \"models/./Tiny.gguf\"").resolve(None, &HostEnvironment { cpus: 4 }).unwrap();
    let spec = fleet.get("tiny").unwrap();
    assert_eq!(&*spec.display_name, "tiny");
    assert_eq!(spec.model.to_str(), Some("/configuration/models/Tiny.gguf"));
    assert_eq!((spec.port, &*spec.host, spec.enabled, spec.thinking), (8001, "127.0.0.1", true, false));
    assert_eq!((spec.tier.as_deref(), spec.binary.to_str()), (None, Some("llama-server")));
    assert_eq!(spec.readiness.timeout, Duration::from_secs(120));
    assert_eq!(spec.readiness.on_timeout, OnTimeout::AssumeReady);
    assert_eq!((spec.readiness.stall_timeout, spec.readiness.detector.as_deref()), (None, None));
    assert_eq!(spec.readiness.confirm, Confirm::Health);
    assert_eq!((spec.stop.grace, spec.stop.ladder.as_slice()), (Duration::from_secs(10), &[Signal::TERM][..]));
    assert_eq!((spec.restart.policy, spec.restart.max_attempts), (RestartPolicy::OnFailure, 5));
    assert_eq!((spec.health.failures, spec.health.interval), (3, Duration::from_secs(10)));
    assert_eq!(spec.health.inference, None);
    let flags: Vec<_> =
        spec.flags.iter().map(|(name, flag)| (name.as_str(), flag.value.clone(), flag.origin)).collect();
    let expected = [
        ("batch-size", FlagValue::Integer(512)),
        ("ctx-size", FlagValue::Integer(32768)),
        ("flash-attn", FlagValue::Switch(true)),
        ("log-disable", FlagValue::Switch(false)),
        ("mmap", FlagValue::Switch(false)),
        ("n-gpu-layers", FlagValue::Integer(99)),
        ("threads", FlagValue::Integer(4)),
        ("ubatch-size", FlagValue::Integer(256)),
    ];
    assert_eq!(flags, expected.map(|(name, value)| (name, value, FlagOrigin::BuiltIn)));
}

#[test]
fn the_documented_configuration_parses() {
    let fleet = parse(COMPLETE).resolve(Some("fast_and_furious"), &HostEnvironment { cpus: 2 }).unwrap();
    let spec = fleet.get("qwen3_4p0b_q4km_fast").unwrap();
    assert_eq!(spec.flags["ctx-size"].value, FlagValue::Integer(8192));
    assert_eq!(spec.flags["parallel"].value, FlagValue::Integer(4));
    assert_eq!(spec.flags["threads"].value, FlagValue::Integer(8), "a written value is passed as it is");
    assert!(spec.enabled);
}

#[test]
fn the_template_parses_with_every_commented_key() {
    let configuration = parse(&template());
    let fleet = configuration.resolve(Some("small"), &HostEnvironment { cpus: 2 }).unwrap();
    assert!(fleet.get("qwen3-8b").unwrap().enabled);
    assert_eq!(fleet.iter().len(), 1);
}

#[test]
fn the_template_shows_every_key_that_the_schema_knows() {
    let template = as_json(&template());
    let schema = schema();
    let keys = |table: &str| -> Vec<String> {
        let table = if table == "File" { &schema } else { &schema["$defs"][table] };
        table["properties"].as_object().unwrap_or_else(|| panic!("no such table")).keys().cloned().collect()
    };
    for key in keys("File") {
        assert!(template.get(&key).is_some(), "the template lacks [{key}]");
    }
    for (table, at) in [
        ("Daemon", &template["daemon"]),
        ("LlamaServer", &template["llama-server"]),
        ("Readiness", &template["readiness"]),
        ("Stop", &template["stop"]),
        ("Logs", &template["logs"]),
        ("Restart", &template["restart"]),
        ("Health", &template["health"]),
        ("Start", &template["start"]),
        ("Models", &template["models"]),
        ("Router", &template["router"]),
        ("RouterGroup", &template["router"]["groups"]["gpu0"]),
        ("ServerRouter", &template["servers"][0]["router"]),
        ("Server", &template["servers"][0]),
        ("Hooks", &template["servers"][0]["hooks"]),
        ("Peer", &template["peers"]["gpu2"]),
        ("Profile", &template["profiles"]["small"]),
    ] {
        for key in keys(table) {
            assert!(at.get(&key).is_some(), "the template lacks `{key}` of {table}");
        }
    }
}

#[test]
fn the_schema_takes_what_the_reader_takes() {
    let validator = jsonschema::draft202012::new(&schema()).unwrap();
    for text in [DEFAULT_TOML, &template(), COMPLETE, ""] {
        let json = as_json(text);
        let errors: Vec<String> = validator.iter_errors(&json).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
    for text in [
        "x = 1",
        "[stop]\ngrase = \"1s\"",
        "[stop]\ngrace = 1",
        "[flags]\n--x = 1",
        "[health]\nfailures = 0",
        "[[servers]]\nport = 1",
        "[[servers]]\nmodel = \"m\"\nport = 65536",
        "[[servers]]\nmodel = \"m\"\nid = \".x\"",
        "[profiles.p]\ndescription = \"\"",
        "[logs]\nring = \"1 cup\"",
    ] {
        assert!(!validator.is_valid(&as_json(text)), "the schema takes {text}");
    }
}

#[test]
fn every_key_in_the_schema_is_described() {
    fn walk(schema: &Json, path: &str) {
        for (key, property) in schema["properties"].as_object().into_iter().flatten() {
            assert!(property["description"].as_str().is_some_and(|text| !text.is_empty()), "{path}.{key}");
        }
    }
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    walk(&schema, "");
    for (name, table) in schema["$defs"].as_object().unwrap() {
        walk(table, name);
        assert!(table["additionalProperties"] == false || table["type"] == "string", "{name} takes unknown keys");
    }
}

#[test]
fn the_schema_shows_the_built_in_defaults() {
    let schema = schema();
    assert_eq!(schema["$defs"]["Stop"]["properties"]["grace"]["default"], "10s");
    assert_eq!(schema["properties"]["flags"]["default"]["ctx-size"], 32768);
    assert_eq!(schema["$defs"]["Server"]["properties"]["model"]["default"], Json::Null);
}
