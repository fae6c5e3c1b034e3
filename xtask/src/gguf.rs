//! `cargo xtask gguf`: writes a random model to try things out with.

use std::path::PathBuf;

use llama_warden_test_parts::error::{Error, OnPath};
use llama_warden_tiny_gguf::TinyModel;

/// Where to write the model, and its size.
#[derive(Debug, clap::Args)]
pub struct GgufOptions {
    /// The file to write
    path: PathBuf,
    /// At least this many megabytes; a few thousand take seconds to load. Without it, half a megabyte
    #[arg(long, value_name = "N")]
    mb: Option<u32>,
}

/// Writes the model and prints its path.
///
/// # Errors
/// When the file cannot be written.
pub fn run(options: &GgufOptions) -> Result<(), Error> {
    let bytes = u64::from(options.mb.unwrap_or_default()) * 1_000_000;
    TinyModel::new("random").at_least_bytes(bytes).write(&options.path).on("write", &options.path)?;
    println!("{}", options.path.display());
    Ok(())
}
