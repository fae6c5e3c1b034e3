//! Configuration files: every problem has a place in the file, and what is valid resolves for every profile.

use std::collections::BTreeSet;
use std::sync::Arc;

use llama_warden_config::{
    ConfigSource, Configuration, Document, Environment, HostEnvironment, Layer, RenderStyle, values_in_force,
};
use llama_warden_located_toml::tree;

use crate::check_place;

/// Reads the input as a configuration file.
pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input).into_owned();
    let environment: Environment = [("HOME", "/srv/u"), ("LLAMA_WARDEN_STOP__GRACE", "3s")].into_iter().collect();
    let source = ConfigSource::text("/srv", text.clone());
    let (examined, problems) = Configuration::examine(&source, &environment);
    for problem in &problems.0 {
        if let (Some((line, column)), false) = (problem.location.line_and_column(), problem.location.is_built_in()) {
            check_place(&text, line, column);
        }
        assert!(!problem.message.is_empty(), "a problem says something");
    }
    problems.render(RenderStyle::Coloured);
    problems.within(4096);

    let parsed = Configuration::parse(&source, &environment);
    assert_eq!(parsed.is_ok(), examined.is_some() && problems.0.is_empty(), "parse and examine agree: {problems}");
    match parsed {
        Ok(configuration) => check_valid(&source, &environment, &configuration),
        Err(problems) => assert!(!problems.0.is_empty(), "a refusal says why"),
    }
    check_syntax(&text);
}

fn check_valid(source: &ConfigSource, environment: &Environment, configuration: &Configuration) {
    let profiles = configuration.profiles();
    for profile in profiles.iter().map(|profile| Some(profile.name.as_str())).chain([None, Some("")]) {
        let fleet = configuration.resolve(profile, &HostEnvironment { cpus: 4 }).unwrap_or_else(|problems| {
            panic!("the profile {profile:?} of a valid configuration does not resolve: {problems}")
        });
        let ids: BTreeSet<_> = fleet.iter().map(|server| &server.id).collect();
        assert_eq!(ids.len(), fleet.iter().len(), "ids are unique");
        for server in fleet.iter() {
            assert!(server.model.is_absolute() || server.model_repository().is_some(), "{:?}", server.model);
            assert_eq!(fleet.get(server.id.as_str()).map(|found| &found.id), Some(&server.id));
            server.card();
        }
    }
    let values = values_in_force(source, environment).unwrap_or_else(|problems| panic!("valid, but {problems}"));
    for value in values {
        let line = format!("value = {}", value.value);
        assert!(line.parse::<toml::Table>().is_ok(), "{} is shown as no TOML: {line}", value.key);
    }
}

/// What our tree takes without a problem, every reader of TOML takes.
fn check_syntax(text: &str) {
    let mut problems = Vec::new();
    let document = Arc::new(Document::new("fuzz.toml", text, Layer::User));
    let tree = tree::parse(&document, &mut problems);
    assert!(tree.is_some() || !problems.is_empty(), "nothing is read, and nothing is said");
    if problems.is_empty() {
        let read = text.parse::<toml::Table>();
        assert!(read.is_ok(), "no problem is found in what is no TOML: {read:?}");
    }
}
