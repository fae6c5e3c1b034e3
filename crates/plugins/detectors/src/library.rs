//! All detector packs: those of a directory, before those that are built in.

use llama_warden_plugin_files::PluginSet;

use crate::Pack;

#[cfg(test)]
mod tests;

/// The packs in force. The generic one fits every build and lies behind all others.
pub type PackSet = PluginSet<Pack>;

/// The name of the pack that fits every build.
pub const GENERIC: &str = "generic";

pub(crate) const GENERIC_TEXT: &str = include_str!("../../../../config/detectors/generic.toml");

/// Newest era first.
pub(crate) const BUILT_IN: [&str; 6] = [
    include_str!("../../../../config/detectors/llama-server-b11xxx.toml"),
    include_str!("../../../../config/detectors/llama-server-b9xxx.toml"),
    include_str!("../../../../config/detectors/llama-server-2024-08.toml"),
    include_str!("../../../../config/detectors/llama-server-2024-02.toml"),
    include_str!("../../../../config/detectors/llama-server-2024-01.toml"),
    include_str!("../../../../config/detectors/llama-server-2023-12.toml"),
];
