//! Random weights. All tensors are copied from one small pool of random blocks, so that gigabytes take little time and memory.

use std::io::{self, Write};

use fastrand::Rng;

/// The format of the matrices of a model. Norms are always `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WeightFormat {
    /// Four bytes per weight.
    #[default]
    F32,
    /// Two bytes per weight.
    F16,
    /// Blocks of 32 weights in 34 bytes: an `f16` scale and 32 signed bytes.
    Q8_0,
}

/// The numbers of a format in llama.cpp, and its block size.
pub(crate) struct Layout {
    /// In a tensor record.
    pub(crate) type_code: u32,
    /// In `general.file_type`.
    pub(crate) file_type: u32,
    block_elements: u64,
    block_bytes: u64,
}

impl WeightFormat {
    pub(crate) const fn layout(self) -> Layout {
        match self {
            Self::F32 => Layout { type_code: 0, file_type: 0, block_elements: 1, block_bytes: 4 },
            Self::F16 => Layout { type_code: 1, file_type: 1, block_elements: 1, block_bytes: 2 },
            Self::Q8_0 => Layout { type_code: 8, file_type: 7, block_elements: 32, block_bytes: 34 },
        }
    }

    /// The size of `elements` weights in bytes. `elements` must be a multiple of the block size.
    pub(crate) fn bytes(self, elements: u64) -> u64 {
        elements / self.layout().block_elements * self.layout().block_bytes
    }

    /// Appends one random block of weights within ±0.0625.
    fn push_block(self, rng: &mut Rng, out: &mut Vec<u8>) {
        match self {
            Self::F32 => out.extend(((rng.f32() - 0.5) / 8.0).to_le_bytes()),
            Self::F16 => {
                // A random sign and fraction with an exponent of 2^-7 to 2^-5: never infinite, never denormal.
                let exponent = rng.u16(8..10) << 10;
                out.extend((rng.u16(..) & 0x83FF | exponent).to_le_bytes());
            }
            Self::Q8_0 => {
                const SCALE: u16 = 0x1000; // 2^-11 as f16.
                out.extend(SCALE.to_le_bytes());
                out.extend(std::iter::repeat_with(|| rng.i8(-127..=127) as u8).take(32));
            }
        }
    }
}

/// A pool of random blocks in one format.
#[derive(Debug)]
pub(crate) struct WeightPool {
    format: WeightFormat,
    blocks: Vec<u8>,
}

/// The number of blocks in a pool: a prime, so that rows of a matrix rarely repeat.
const POOL_BLOCKS: u64 = 16_381;

impl WeightPool {
    pub(crate) fn new(format: WeightFormat, rng: &mut Rng) -> Self {
        let mut blocks = Vec::with_capacity((POOL_BLOCKS * format.layout().block_bytes) as usize);
        (0..POOL_BLOCKS).for_each(|_| format.push_block(rng, &mut blocks));
        Self { format, blocks }
    }

    /// Writes `bytes` of weights, beginning at a random block of the pool and starting over at its end.
    pub(crate) fn write(&self, bytes: u64, rng: &mut Rng, out: &mut impl Write) -> io::Result<()> {
        let mut from = (rng.u64(..POOL_BLOCKS) * self.format.layout().block_bytes) as usize;
        let mut left = bytes;
        while left > 0 {
            let piece = &self.blocks[from..];
            let taken = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            out.write_all(&piece[..taken])?;
            left -= taken as u64;
            // Only the first piece begins at a random block; the others are whole pools.
            from = 0;
        }
        Ok(())
    }
}
