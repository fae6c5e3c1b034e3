//! The arguments of `dialect`.

use std::path::PathBuf;

use clap::Subcommand;

use llama_warden_connect::path;

use crate::completion;

/// The commands of `dialect`.
#[derive(Debug, Clone, Subcommand)]
pub enum DialectCommand {
    /// Show every dialect, in order of precedence
    List,
    /// Show one dialect as it is written
    Show {
        /// Its name, or its file
        #[arg(value_name = "NAME", add = completion::dialects())]
        name: String,
    },
    /// Check whether a file is a valid dialect, and whether its examples hold
    Check {
        /// The file; it need not lie in llama-server.dialects-dir
        #[arg(value_name = "FILE", value_parser = path())]
        file: PathBuf,
    },
}
