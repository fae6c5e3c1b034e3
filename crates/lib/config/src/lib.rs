//! A configuration file to validated options and profiles, with errors that point into it.
//!
//! [`find`] looks for the file, [`Configuration::parse`] lays it over [`DEFAULT_TOML`] and validates it,
//! [`Configuration::with_discovered`] adds what lies in the folders of models, and [`Configuration::resolve`] gives the
//! [`Fleet`] for a profile and a machine. On the way a text becomes
//!
//! 1. a tree in which every key and value knows its place (`tree`), with the environment's overrides laid over it (`overrides`);
//! 2. the typed tables of the file, every key optional (`file`, read by `read` and `value`);
//! 3. the same over the built-in defaults, checked as a whole (`check`, `plan`, `profile`);
//! 4. settings and specs with every default filled in (`specs`), in which nothing can be wrong any more.
//!
//! Each step collects problems and goes on, so that a user sees all of them at once. Nothing here reads global state:
//! the environment, the current directory and the machine are arguments.

mod address;
mod check;
mod configuration;
mod discovered;
mod environment;
mod file;
mod flags;
mod in_force;
mod overrides;
mod plan;
mod problem;
mod profile;
mod read;
mod render;
mod schema;
mod settings;
mod shared;
mod source;
mod spec;
mod specs;
mod suggest;
mod text;
mod tree;
mod value;
mod warnings;
mod written;

pub use address::{InvalidListenAddress, ListenAddress, TcpAddress};
pub use configuration::Configuration;
pub use discovered::{Discovered, DiscoveredServer};
pub use environment::{Environment, User, default_state_dir};
pub use in_force::NotInForce;
pub use problem::{Document, Excerpt, Layer, Location, Problem, Problems, RenderStyle, Severity};
pub use schema::schema;
pub use settings::{AdmissionPolicy, DaemonSettings, Host, LogSettings, OnDaemonDeath, ProfileSummary, StartSettings};
pub use shared::Shared;
pub use source::{DEFAULT_TOML, Source, find};
pub use spec::*;
pub use text::Text;
