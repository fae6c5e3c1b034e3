//! How each build of llama-server spells its options.

mod argv;
mod binary;
mod dialect;
mod dialect_file;
#[cfg(test)]
mod fixtures;
mod help;
mod redact;
mod translate;

pub use argv::{BadArgument, CommandLine, plan};
pub use binary::{BinaryProfile, Version};
pub use dialect::{Dialect, DialectSet, choose_dialect};
pub use dialect_file::dialect_schema;
pub use help::{OptionList, Takes};
pub use redact::{REDACTED, is_secret_variable};
