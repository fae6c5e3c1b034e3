//! The servers of a configuration, validated and with every default filled in: [`Fleet`] and [`ServerSpec`], their verbatim
//! arguments as llama-server reads them, and the keys that they ask clients for.

mod arguments;
mod key_source;
mod server_spec;

pub use arguments::{WrittenAt, WrittenOption, written_options};
pub use key_source::{COMMENTS_ARE_KEYS, KeyError, KeySource};
pub use server_spec::*;
