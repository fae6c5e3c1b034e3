//! Reads a model file as far as llama-server's error messages need it: magic, version, header, and whether it is cut off.

use std::{
    fs::File,
    io::{self, Read},
};

use crate::eras::Era;

/// Contents of a valid header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelFileHeader {
    pub(crate) tensors: u64,
    pub(crate) pairs: u64,
    /// `general.name`.
    pub(crate) name: Option<String>,
}

/// The reason why a model cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModelFault {
    Missing,
    NoMagic,
    WrongMagic(String),
    FutureVersion(u32),
    HeaderCut,
    /// The name of the tensor whose data is missing.
    WeightsCut(String),
}

/// The longest header that is read, in bytes; models of tests are small.
const HEADER_LIMIT: u64 = 16 << 20;

/// Reads the header of `path` as a build of `era` would.
pub(crate) fn check(path: &str, era: Era) -> Result<ModelFileHeader, ModelFault> {
    let Ok(file) = File::open(path) else { return Err(ModelFault::Missing) };
    let length = file.metadata().map(|metadata| metadata.len()).unwrap_or_default();
    let mut bytes = Vec::new();
    // A directory can be opened and not read. llama-server reports it as a file without magic.
    if file.take(HEADER_LIMIT).read_to_end(&mut bytes).is_err() || bytes.len() < 4 {
        return Err(ModelFault::NoMagic);
    }
    let mut input = ByteReader(&bytes);
    let magic = input.take(4).unwrap_or_default();
    if magic != b"GGUF" {
        return Err(ModelFault::WrongMagic(String::from_utf8_lossy(magic).into_owned()));
    }
    let version = input.u32().ok_or(ModelFault::HeaderCut)?;
    // Builds refuse unknown versions since 2025.
    if version > 3 && era >= Era::August2025 {
        return Err(ModelFault::FutureVersion(version));
    }
    let (header, last) = header(&mut input).ok_or(ModelFault::HeaderCut)?;
    // Tensor data begins at the next multiple of 32 after the header.
    let data_at = ((bytes.len() - input.0.len()) as u64).next_multiple_of(32);
    match last {
        // The size of the tensor type is not known here. A file that ends before the last tensor begins is cut off.
        Some((name, offset)) if data_at.saturating_add(offset) >= length => Err(ModelFault::WeightsCut(name)),
        _ => Ok(header),
    }
}

/// Reads the header after the version; returns it with the name and the offset of the last tensor.
fn header(input: &mut ByteReader<'_>) -> Option<(ModelFileHeader, Option<(String, u64)>)> {
    let (tensors, pairs) = (input.u64()?, input.u64()?);
    let mut name = None;
    for _ in 0..pairs {
        let key = input.text()?;
        let kind = input.u32()?;
        if key == "general.name" && kind == KIND_TEXT {
            name = Some(input.text()?);
        } else {
            input.skip_value(kind)?;
        }
    }
    let mut last = None;
    for _ in 0..tensors {
        let name = input.text()?;
        let dimensions = input.u32()?;
        input.take(usize::try_from(dimensions).ok()?.checked_mul(8)?)?;
        input.u32()?;
        last = Some((name, input.u64()?));
    }
    Some((ModelFileHeader { tensors, pairs, name }, last))
}

const KIND_TEXT: u32 = 8;
const KIND_ARRAY: u32 = 9;

/// The bytes that have not been read yet.
struct ByteReader<'a>(&'a [u8]);

impl<'a> ByteReader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.u64()?).ok()?;
        Some(String::from_utf8_lossy(self.take(length)?).into_owned())
    }

    fn skip_value(&mut self, kind: u32) -> Option<()> {
        match kind {
            KIND_TEXT => self.text().map(drop),
            KIND_ARRAY => {
                let (item, count) = (self.u32()?, self.u64()?);
                // Refuse arrays of arrays: no model has them, and a crafted file could recurse without bound.
                if item == KIND_ARRAY {
                    return None;
                }
                (0..count).try_for_each(|_| self.skip_value(item))
            }
            _ => self.take(scalar_bytes(kind)?).map(drop),
        }
    }
}

fn scalar_bytes(kind: u32) -> Option<usize> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// The C library's message for a file that cannot be opened.
pub(crate) fn missing_text(path: &str) -> String {
    match File::open(path).map_err(|error| error.kind()) {
        Err(io::ErrorKind::PermissionDenied) => "Permission denied".into(),
        _ => "No such file or directory".into(),
    }
}

#[cfg(test)]
mod tests {
    use llama_warden_tiny_gguf::{Damage, TinyModel};

    use super::*;

    #[test]
    fn a_good_model_is_read_and_each_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.gguf");
        let text = path.to_str().unwrap();
        assert_eq!(check(text, Era::B11669), Err(ModelFault::Missing));
        assert_eq!(check(folder.path().to_str().unwrap(), Era::B11669), Err(ModelFault::NoMagic));
        TinyModel::new("A name").write(&path).unwrap();
        let header = check(text, Era::B11669).unwrap();
        assert_eq!((header.name.as_deref(), header.tensors), (Some("A name"), 21));
        let fault = |damage, era| {
            TinyModel::new("A name").write_damaged(&path, damage).unwrap();
            check(text, era)
        };
        assert_eq!(fault(Damage::WrongMagic, Era::B11669), Err(ModelFault::WrongMagic("GGML".into())));
        assert_eq!(fault(Damage::Empty, Era::B11669), Err(ModelFault::NoMagic));
        assert_eq!(fault(Damage::HeaderCut, Era::B11669), Err(ModelFault::HeaderCut));
        assert!(matches!(fault(Damage::WeightsCut, Era::B11669), Err(ModelFault::WeightsCut(_))));
        assert_eq!(fault(Damage::FutureVersion, Era::B11669), Err(ModelFault::FutureVersion(99)));
        assert!(fault(Damage::FutureVersion, Era::November2024).is_ok());
    }
}
