//! The arguments of `key`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use llama_warden_connect::path;

/// The commands of `key`.
#[derive(Debug, Clone, Subcommand)]
pub enum KeyCommand {
    /// Make a key, print it once, and append its hash to the file of keys
    New(NewKeyArgs),
    /// List the names of the keys, and what each may do
    List {
        /// The file, instead of `router.keys-file`
        #[arg(long, value_name = "FILE", value_parser = path())]
        file: Option<PathBuf>,
    },
}

/// Options of `key new`.
#[derive(Debug, Clone, Args)]
pub struct NewKeyArgs {
    /// The name of the key: 1 to 64 letters, digits, `.`, `_`, `-` and `@`
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The models that it may use: ids, aliases, or globs such as 'qwen*'; else every model. Repeatable
    #[arg(long, value_name = "MODEL", value_delimiter = ',')]
    pub models: Vec<String>,
    /// Requests at a time; 0 is any number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub max_in_flight: u32,
    /// It may also unload servers and change their properties, slots and adapters
    #[arg(long)]
    pub admin: bool,
    /// Take the key from the first line of standard input: one that clients have already
    #[arg(long)]
    pub existing: bool,
    /// The file, instead of `router.keys-file`; it is made if it is missing
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub file: Option<PathBuf>,
}
