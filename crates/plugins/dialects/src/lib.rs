//! How each build of llama-server spells its options.

mod command_line;
mod dialect;
mod file;
#[cfg(test)]
mod fixtures;
mod flag_value;
mod help;
mod load;
mod option_error;
mod profile;
mod redact;
#[cfg(test)]
mod tests;
mod translate;

pub use command_line::{CommandLine, build_command_line};
pub use dialect::Dialect;
pub use file::dialect_schema;
pub use help::{OptionList, ValueKind};
pub use load::{DialectSet, choose_dialect};
pub use option_error::OptionError;
pub use profile::{BinaryProfile, BuildVersion};
pub use redact::{REDACTED, is_secret_variable};
