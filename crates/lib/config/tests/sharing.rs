//! Equal values are kept once: between servers, between a configuration and its fleets, and across a reload.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;

use llama_warden_config::{ConfigSource, Configuration, Environment, Fleet, HostEnvironment};

const TEXT: &str = "[[servers]]\nid='a'\nmodel='a.gguf'\ntier='F16'\n\
                    [[servers]]\nid='b'\nmodel='b.gguf'\ntier='F16'\n\
                    [[servers]]\nid='c'\nmodel='c.gguf'\nflags={ctx-size=1}\nstop={grace='1s'}\n\
                    [profiles.some]\nservers=['a', 'c']\n";
const HOST: HostEnvironment = HostEnvironment { cpus: 4 };

fn parse(text: &str) -> Configuration {
    let configuration = Configuration::parse(&ConfigSource::text("/", text), &Environment::default()).unwrap();
    configuration.with_discovered(Default::default()).unwrap()
}

fn resolve(configuration: &Configuration, profile: &str) -> Fleet {
    configuration.resolve(Some(profile), &HOST).unwrap()
}

/// Which servers two fleets keep once.
fn kept_once(one: &Fleet, other: &Fleet) -> Vec<String> {
    let same = |spec: &&Arc<_>| other.iter().any(|other| Arc::ptr_eq(spec, other));
    one.iter().filter(same).map(|spec| spec.id.to_string()).collect()
}

#[test]
fn servers_that_say_nothing_of_their_own_share_what_the_sections_say() {
    let fleet = resolve(&parse(TEXT), "");
    let [a, b, c] = ["a", "b", "c"].map(|id| fleet.get(id).unwrap());
    assert!(std::ptr::eq(&*a.flags, &*b.flags) && std::ptr::eq(&*a.readiness, &*c.readiness));
    assert!(std::ptr::eq(&*a.stop, &*b.stop) && !std::ptr::eq(&*a.stop, &*c.stop));
    assert!(Arc::ptr_eq(&a.binary, &c.binary) && Arc::ptr_eq(&a.host, &c.host));
    assert!(std::ptr::eq(a.tier.as_deref().unwrap(), b.tier.as_deref().unwrap()));
    assert!(std::ptr::eq(&*a.display_name, a.id.as_str()));
    assert_ne!(a.flags, c.flags);
}

#[test]
fn a_configuration_and_what_it_is_resolved_to_keep_a_server_once() {
    let configuration = parse(TEXT);
    let configuration = configuration.dedup(Some("some"), &HOST, &Fleet::default());
    let first = resolve(&configuration, "some");
    assert_eq!(kept_once(&resolve(&configuration, "some"), &first), ["a", "b", "c"]);
    let enabled = resolve(&configuration, "");
    assert_eq!(kept_once(&enabled, &first), ["a", "c"], "b alone is enabled in one of them only");
    assert!(enabled.iter().all(|spec| spec.enabled), "what the file says is not forgotten");
}

#[test]
fn a_changed_server_alone_is_new_after_a_reload() {
    let before = resolve(&parse(TEXT), "");
    let changed = parse(&TEXT.replace("b.gguf", "other.gguf")).dedup(Some(""), &HOST, &before);
    let after = resolve(&changed, "");
    assert_eq!(kept_once(&after, &before), ["a", "c"]);
    assert_eq!(after.get("b").unwrap().model.to_str(), Some("/other.gguf"));
    assert_eq!(after, resolve(&parse(&TEXT.replace("b.gguf", "other.gguf")), ""));
}
