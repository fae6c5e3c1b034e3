//! The command line of `dialect`.

use std::path::PathBuf;

use clap::Subcommand;

/// What to do with flag dialects.
#[derive(Debug, Clone, Subcommand)]
pub enum DialectCommand {
    /// Show every dialect, in order of precedence
    List,
    /// Show one dialect as it is written
    Show {
        /// Its name, or its file
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Say whether a file is a dialect, and whether its examples hold
    Check {
        /// The file; it need not lie in llama-server.dialects-dir
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}
