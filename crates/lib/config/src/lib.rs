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
mod arc_str;
mod environment;
mod file;
mod problem;
mod resolve;
mod server_spec;
mod settings;

pub use address::{InvalidListenAddress, ListenAddress, TcpAddress};
pub use arc_str::ArcStr;
pub use environment::{Environment, User, default_state_dir};
pub use file::schema::schema;
pub use file::source::{ConfigSource, DEFAULT_TOML, find};
pub use problem::{ConfigProblem, ConfigProblems, Document, Excerpt, Layer, Location, RenderStyle, Severity};
pub use resolve::configuration::Configuration;
pub use resolve::discovered::{Discovered, DiscoveredServer};
pub use server_spec::*;
pub use settings::{
    AdmissionPolicy, DaemonSettings, HostEnvironment, LogSettings, OnDaemonDeath, ProfileSummary, StartSettings,
};
