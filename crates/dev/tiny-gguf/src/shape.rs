//! The dimensions of a network, and the tensors that follow from them.

use crate::alignment::aligned;
use crate::{vocabulary, weights::WeightFormat};

/// The dimensions of a llama network. llama.cpp can load it if none is zero, the widths are multiples of 32 (the block size of
/// quantised weights), and the embedding divides into heads of an even width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelShape {
    /// Transformer blocks.
    pub layers: u32,
    /// Width of the embedding.
    pub embedding: u32,
    /// Attention heads.
    pub heads: u32,
    /// Width of the hidden layer.
    pub feed_forward: u32,
}

/// One tensor of a network, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    /// Dimensions in the order of GGUF: the one that varies fastest first.
    pub(crate) dimensions: Vec<u64>,
}

impl Tensor {
    pub(crate) fn elements(&self) -> u64 {
        self.dimensions.iter().product()
    }

    /// Norms are vectors, everything else is a matrix.
    pub(crate) fn is_norm(&self) -> bool {
        self.dimensions.len() == 1
    }

    /// The format of the tensor in the file. llama.cpp requires norms to be unquantised.
    pub(crate) fn format(&self, weights: WeightFormat) -> WeightFormat {
        if self.is_norm() { WeightFormat::F32 } else { weights }
    }

    pub(crate) fn bytes(&self, weights: WeightFormat) -> u64 {
        self.format(weights).bytes(self.elements())
    }
}

impl ModelShape {
    /// Two layers of width 64 with four heads: 123 200 parameters, 0.5 MB as `f32`.
    pub const TINY: Self = Self { layers: 2, embedding: 64, heads: 4, feed_forward: 128 };

    /// A shape whose weights take at least `bytes` in the format `weights`, and at most about a third more.
    pub fn at_least_bytes(bytes: u64, weights: WeightFormat) -> Self {
        if Self::TINY.weight_bytes(weights) >= bytes {
            return Self::TINY;
        }
        // First double the width while the result stays small, then add layers: many thin layers would load slowly for
        // their size, and a wide network could overshoot.
        let mut width = 64;
        while width < 4096 && Self::of_width(width * 2).weight_bytes(weights) <= bytes / 4 {
            width *= 2;
        }
        let one = Self::of_width(width).weight_bytes(weights);
        let two = Self { layers: 2, ..Self::of_width(width) }.weight_bytes(weights);
        let more = bytes.saturating_sub(one).div_ceil(two - one);
        Self { layers: 1 + u32::try_from(more).unwrap_or(u32::MAX - 1), ..Self::of_width(width) }
    }

    /// The number of weights.
    pub fn parameters(self) -> u64 {
        self.tensors().map(|tensor| tensor.elements()).sum()
    }

    /// The size of the weights in bytes, without the header.
    pub fn weight_bytes(self, weights: WeightFormat) -> u64 {
        self.tensors().map(|tensor| aligned(tensor.bytes(weights))).sum()
    }

    pub(crate) fn tensors(self) -> impl Iterator<Item = Tensor> {
        let (embedding, hidden) = (u64::from(self.embedding), u64::from(self.feed_forward));
        let words = vocabulary::SIZE as u64;
        let whole = [
            matrix("token_embd.weight".into(), embedding, words),
            norm("output_norm.weight".into(), embedding),
            matrix("output.weight".into(), embedding, words),
        ];
        let layers = (0..self.layers).flat_map(move |layer| {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            [
                norm(name("attn_norm"), embedding),
                matrix(name("attn_q"), embedding, embedding),
                matrix(name("attn_k"), embedding, embedding),
                matrix(name("attn_v"), embedding, embedding),
                matrix(name("attn_output"), embedding, embedding),
                norm(name("ffn_norm"), embedding),
                matrix(name("ffn_gate"), embedding, hidden),
                matrix(name("ffn_up"), embedding, hidden),
                matrix(name("ffn_down"), hidden, embedding),
            ]
        });
        whole.into_iter().chain(layers)
    }

    /// One layer in the proportions of [`ModelShape::TINY`]: heads of width 16, and a hidden layer of twice the width.
    fn of_width(width: u32) -> Self {
        Self { layers: 1, embedding: width, heads: width / 16, feed_forward: width * 2 }
    }
}

fn matrix(name: String, columns: u64, rows: u64) -> Tensor {
    Tensor { name, dimensions: vec![columns, rows] }
}

fn norm(name: String, width: u64) -> Tensor {
    Tensor { name, dimensions: vec![width] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiny_shape_has_the_parameters_that_its_doc_names() {
        assert_eq!(ModelShape::TINY.parameters(), 123_200);
        assert!(ModelShape::TINY.weight_bytes(WeightFormat::F32) < 1 << 20);
    }

    #[test]
    fn a_wanted_size_is_reached_and_not_overshot_by_more_than_a_third() {
        for weights in [WeightFormat::F32, WeightFormat::F16, WeightFormat::Q8_0] {
            for megabytes in [1, 2, 7, 33, 100, 1600, 20_000] {
                let wanted = megabytes << 20;
                let bytes = ModelShape::at_least_bytes(wanted, weights).weight_bytes(weights);
                assert!(bytes >= wanted, "{weights:?} {megabytes} MB gives only {bytes} bytes");
                assert!(bytes <= wanted + wanted / 3, "{weights:?} {megabytes} MB gives {bytes} bytes");
            }
        }
    }
}
