//! Finds and reads the file of a configuration, and the environment beside it.
//!
//! Nothing here knows a key of a configuration. [`ConfigSource`] is its text and where it came from, [`Environment`] the variables
//! as a value, and [`ShellSpelling`] finds `~` and `$NAME` in texts that no shell reads.

mod environment;
mod file;
mod shell_spelling;

pub use environment::{Environment, User, default_state_dir};
pub use file::{ConfigSource, DEFAULT_TOML, SourceKind, find, read_config_file, search_places};
pub use shell_spelling::ShellSpelling;
