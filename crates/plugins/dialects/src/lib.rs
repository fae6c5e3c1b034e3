//! How each build of llama-server spells its options.

mod bad_argument;
mod command_line;
mod dialect;
mod file;
#[cfg(test)]
mod fixtures;
mod flag_value;
mod help;
mod load;
mod profile;
mod redact;
#[cfg(test)]
mod tests;
mod translate;

pub use bad_argument::BadArgument;
pub use command_line::{CommandLine, plan};
pub use dialect::Dialect;
pub use file::dialect_schema;
pub use help::{OptionList, Takes};
pub use load::{DialectSet, choose_dialect};
pub use profile::{BinaryProfile, Version};
pub use redact::{REDACTED, is_secret_variable};
