//! The texts of the packs that are part of the program.
//!
//! A new pack in `config/detectors/` becomes built-in by a line here. The tests check every built-in pack with its own
//! examples, since loading does not.

#[cfg(test)]
mod tests;

/// The name of the pack that fits every build.
pub const GENERIC: &str = "generic";

pub(crate) const GENERIC_TEXT: &str = include_str!("../../../../config/detectors/generic.toml");

/// The other packs, newest era first: at equal fit the first one is chosen.
pub(crate) const BUILT_IN: [&str; 6] = [
    include_str!("../../../../config/detectors/llama-server-b11xxx.toml"),
    include_str!("../../../../config/detectors/llama-server-b9xxx.toml"),
    include_str!("../../../../config/detectors/llama-server-2024-08.toml"),
    include_str!("../../../../config/detectors/llama-server-2024-02.toml"),
    include_str!("../../../../config/detectors/llama-server-2024-01.toml"),
    include_str!("../../../../config/detectors/llama-server-2023-12.toml"),
];
