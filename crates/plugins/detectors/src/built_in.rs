//! All detector packs: those of a directory, before those that are built in.

#[cfg(test)]
mod tests;

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
