//! The configuration file as it is written: its tree is read into typed tables in which every key is optional and every value
//! knows its place, with every problem collected.
//!
//! Nothing here knows what a server becomes; `llama-warden-config` does.

pub mod env_overrides;
mod extension;
pub mod flag_table;
mod other_words;
pub mod provenance;
pub mod reader;
pub mod routing_values;
pub mod schema;
pub mod selector;
pub mod tables;
pub mod values;

pub use llama_warden_located_toml::tree as toml_tree;
