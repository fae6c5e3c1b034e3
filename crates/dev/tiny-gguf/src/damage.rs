//! Ways in which a model file can be bad, each of which llama-server reports in words of its own.

use std::{
    fs::OpenOptions,
    io::{self, Seek, SeekFrom, Write},
    path::Path,
};

use crate::format;

/// How a file is spoilt. The quotations are what llama-server b11669 prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The file begins with `GGML`: "invalid magic characters".
    WrongMagic,
    /// The version is 99: "this GGUF file is version 99 but this software only supports up to version 3".
    FutureVersion,
    /// The file ends within the first key-value pair: "failed to read key-value pairs".
    HeaderCut,
    /// The file ends amid the weights: "data is not within the file bounds".
    WeightsCut,
    /// The file is empty: "failed to read magic".
    Empty,
}

impl Damage {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::WrongMagic, Self::FutureVersion, Self::HeaderCut, Self::WeightsCut, Self::Empty];
}

/// Spoils the good model at `path`, whose header is `header_bytes` long.
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
