//! Reads a configuration file into validated settings and server specifications, with errors that point into the file.
//!
//! [`find`] looks for the file, [`Configuration::parse`] lays it over [`DEFAULT_TOML`] and validates it,
//! [`Configuration::with_discovered`] adds a server for each model found in the folders of models, and
//! [`Configuration::resolve`] builds the [`Fleet`] for a profile and a machine. The text passes four stages:
//!
//! 1. `llama_warden_located_toml` parses it into a tree in which every key and value has a place;
//!    `llama_warden_config_file::env_overrides` lays the overrides of the environment over it;
//! 2. `llama_warden_config_file::tables` reads the tree into typed tables in which every key is optional;
//! 3. `resolve::cross_checks`, `identities` and `profiles` merge them over the built-in defaults and check the whole;
//! 4. `resolve::defaults` builds settings and server specifications with every default filled in. They are always valid.
//!
//! Each stage collects problems and continues, so that a user sees all of them at once. Nothing here reads global state:
//! the environment, the current directory and the machine are arguments.
//!
//! ```
//! use llama_warden_config::{ConfigSource, Configuration, Environment, HostEnvironment};
//!
//! let source = ConfigSource::text("/srv", "[[servers]]\nmodel = 'models/Tiny.gguf'\nflags = { ctx-size = 4096 }\n");
//! let configuration = Configuration::parse(&source, &Environment::default())?;
//! let fleet = configuration.resolve(None, &HostEnvironment { cpus: 8 })?;
//! let server = fleet.get("tiny").expect("the id comes from the file name");
//! assert_eq!((server.model.to_str(), server.port), (Some("/srv/models/Tiny.gguf"), 8001));
//!
//! let broken = ConfigSource::text("/srv", "[stop]\ngrace = 10\n");
//! let problems = Configuration::parse(&broken, &Environment::default()).unwrap_err();
//! assert!(problems.to_string().starts_with("configuration:2:9: `stop.grace` must be a duration"));
//! # Ok::<(), llama_warden_config::ConfigProblems>(())
//! ```

use llama_warden_config_file as file;
use llama_warden_located_toml as problem;

mod resolve;

pub use llama_warden_config_file::schema::schema;
pub use llama_warden_config_source::{
    ConfigSource, DEFAULT_TOML, Environment, ShellSpelling, SourceKind, User, default_state_dir, find,
    read_config_file, search_places,
};
pub use llama_warden_fleet::*;
pub use llama_warden_located_toml::{
    ConfigProblem, ConfigProblems, Document, Excerpt, Layer, Location, NeededFile, RenderStyle, Severity, nearest,
    suggestion,
};
pub use resolve::configuration::Configuration;
pub use resolve::discovered::{Discovered, DiscoveredServer};
pub use resolve::in_force::{ValueInForce, values_in_force};
pub use resolve::warnings::UNREADABLE;
