//! Makes a configuration of what others have written: the file of llama-swap, and the presets of llama-server's own router.
//!
//! What has no counterpart is listed with its place and never dropped in silence. The result is text: nothing is started, and
//! the file it came from is not changed.

mod addresses;
mod command_line;
mod document;
mod identifiers;
mod llama_swap;
mod presets;

pub use document::{ImportedConfig, LeftOut};
pub use llama_swap::{SwapError, from_llama_swap};
pub use presets::{PresetError, from_presets};
