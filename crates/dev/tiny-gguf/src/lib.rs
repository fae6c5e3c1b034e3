//! Writes tiny valid GGUF models with random weights, for tests.
//!
//! A [`TinyModel`] writes a GGUF version 3 file of the `llama` architecture. A real llama-server loads it on a CPU, becomes
//! ready, and generates noise. Models with equal settings and seed are equal files. Writing takes about half a megabyte of
//! memory for a file of any size, so that a test can write a model which takes seconds to load.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! # let folder = std::env::temp_dir().join(format!("tiny-gguf-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! use llama_warden_tiny_gguf::{Damage, TinyModel, WeightFormat};
//!
//! TinyModel::new("Tiny one").seed(7).write(&folder.join("tiny.gguf"))?;
//! TinyModel::new("Four megabytes").weights(WeightFormat::Q8_0).at_least_bytes(4 << 20).write(&folder.join("big.gguf"))?;
//! TinyModel::new("Broken").write_damaged(&folder.join("broken.gguf"), Damage::WrongMagic)?;
//! # std::fs::remove_dir_all(&folder)
//! # }
//! ```

mod alignment;
mod damage;
mod format;
mod model;
mod shape;
mod vocabulary;
mod weights;

pub use damage::Damage;
pub use model::TinyModel;
pub use shape::ModelShape;
pub use weights::WeightFormat;
