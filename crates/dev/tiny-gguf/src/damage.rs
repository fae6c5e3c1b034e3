//! Damages a model file in ways that llama-server reports with different messages.

use std::{
    fs::OpenOptions,
    io::{self, Seek, SeekFrom, Write},
    path::Path,
};

use crate::format;

/// A kind of damage. Quotations are messages of llama-server b11669.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The file begins with `GGML` instead of `GGUF`: "invalid magic characters".
    WrongMagic,
    /// The version is 99: "this GGUF file is version 99 but this software only supports up to version 3".
    FutureVersion,
    /// The file ends within the first key-value pair: "failed to read key-value pairs".
    HeaderCut,
    /// The file ends in the middle of the weights: "data is not within the file bounds".
    WeightsCut,
    /// The file is empty: "failed to read magic".
    Empty,
}

impl Damage {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::WrongMagic, Self::FutureVersion, Self::HeaderCut, Self::WeightsCut, Self::Empty];
}

/// Damages the valid model at `path`, whose header is `header_bytes` long.
pub(crate) fn damage_file(path: &Path, damage: Damage, header_bytes: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let whole = file.metadata()?.len();
    match damage {
        Damage::WrongMagic => file.write_all(b"GGML"),
        Damage::FutureVersion => {
            file.seek(SeekFrom::Start(format::VERSION_AT))?;
            file.write_all(&99_u32.to_le_bytes())
        }
        // 24 bytes of fixed header, then the length of the first key and a part of it.
        Damage::HeaderCut => file.set_len(24 + 8 + 10),
        Damage::WeightsCut => file.set_len(header_bytes + (whole - header_bytes) / 2),
        Damage::Empty => file.set_len(0),
    }
}
