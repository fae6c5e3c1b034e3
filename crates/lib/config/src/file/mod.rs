//! The configuration file as it is written: found, parsed, overridden by the environment, and read into typed tables.
//!
//! Nothing here knows what a server becomes; `resolve` does.

pub(crate) mod env_overrides;
mod extension;
pub(crate) mod flag_table;
pub(crate) mod provenance;
pub(crate) mod reader;
pub(crate) mod routing_values;
pub(crate) mod schema;
pub(crate) mod selector;
pub(crate) mod tables;
pub(crate) mod values;

pub(crate) use llama_warden_located_toml::tree as toml_tree;
