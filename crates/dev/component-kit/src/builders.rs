//! Values that tests need and whose details do not matter to them.

use std::sync::Arc;

use llama_warden_config::{ConfigSource, Configuration, Environment, Fleet, HostEnvironment, ServerSpec};
use llama_warden_events::{ServerCard, ServerId};

/// A card without surprises.
pub fn card(server: &ServerId) -> ServerCard {
    ServerCard {
        display_name: server.to_string(),
        model: None,
        port: 8001,
        host: "127.0.0.1".to_owned(),
        tier: None,
        thinking: false,
        enabled: true,
    }
}

/// A server id from a literal.
pub fn server(id: &str) -> ServerId {
    ServerId::new(id).unwrap_or_else(|error| panic!("{error}"))
}

/// The configuration that a file with this text has.
///
/// # Panics
/// If the text is not a valid configuration.
pub fn configuration(text: &str) -> Configuration {
    let source = ConfigSource::text("/", text);
    Configuration::parse(&source, &Environment::default()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The servers of a configuration file.
///
/// # Panics
/// If the text is not a valid configuration.
pub fn fleet(text: &str) -> Fleet {
    configuration(text).resolve(None, &HostEnvironment { cpus: 1 }).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The only server of a configuration file whose `[[servers]]` table holds `keys` beside an id and a model.
///
/// # Panics
/// If the keys are not valid.
pub fn spec(id: &str, keys: &str) -> Arc<ServerSpec> {
    let fleet = fleet(&format!("[[servers]]\nid = \"{id}\"\nmodel = \"/models/m.gguf\"\n{keys}"));
    fleet.get(id).cloned().unwrap_or_else(|| panic!("the fleet has no server `{id}`"))
}
