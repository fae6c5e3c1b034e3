//! Writes one model: `cargo run -p llama-warden-tiny-gguf --example tiny-gguf -- FILE [MEGABYTES]`.

use std::{error::Error, path::PathBuf};

use llama_warden_tiny_gguf::TinyModel;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let path = PathBuf::from(args.next().ok_or("usage: tiny-gguf FILE [MEGABYTES]")?);
    let mut model = TinyModel::new("Tiny");
    if let Some(megabytes) = args.next() {
        let megabytes: u64 = megabytes.to_string_lossy().parse()?;
        model = model.at_least_bytes(megabytes << 20);
    }
    model.write(&path)?;
    Ok(())
}
