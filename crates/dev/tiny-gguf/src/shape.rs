//! The dimensions of a network, and the tensors that follow from them.

use std::fmt;

use crate::{vocabulary, weights::WeightFormat};

/// The dimensions of a llama network. Only shapes that llama.cpp can load can be constructed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelShape {
    /// Transformer blocks.
    pub(crate) layers: u32,
    /// Width of the embedding.
    pub(crate) embedding: u32,
    /// Attention heads.
    pub(crate) heads: u32,
    /// Width of the hidden layer.
    pub(crate) feed_forward: u32,
}

/// The reason why llama.cpp cannot load a [`ModelShape`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelShapeError {
    /// A dimension is zero.
    Zero,
    /// The width of the embedding or the hidden layer is not a multiple of 32, the block size of quantised weights.
    NotInBlocks {
        /// The width.
        width: u32,
    },
    /// The width of the embedding does not divide into heads of an even width.
    UnevenHeads {
        /// The width of the embedding.
        embedding: u32,
        /// The number of heads.
        heads: u32,
    },
}

impl fmt::Display for ModelShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => write!(f, "a dimension of the network is zero"),
            Self::NotInBlocks { width } => write!(f, "width {width} is not a multiple of 32"),
            Self::UnevenHeads { embedding, heads } => {
                write!(f, "embedding width {embedding} does not divide into {heads} heads of an even width")
            }
        }
    }
}

impl std::error::Error for ModelShapeError {}

/// One tensor of a network, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    /// Dimensions in the order of GGUF: the one that varies fastest first.
    pub(crate) dimensions: Vec<u64>,
    pub(crate) role: TensorRole,
}

/// The kind of a tensor. llama.cpp requires norms to be unquantised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TensorRole {
    Matrix,
    Norm,
}

impl Tensor {
    pub(crate) fn elements(&self) -> u64 {
        self.dimensions.iter().product()
    }

    /// The format of the tensor in the file.
    pub(crate) fn format(&self, weights: WeightFormat) -> WeightFormat {
        match self.role {
            TensorRole::Matrix => weights,
            TensorRole::Norm => WeightFormat::F32,
        }
    }

    pub(crate) fn bytes(&self, weights: WeightFormat) -> u64 {
        self.format(weights).bytes(self.elements())
    }
}

impl ModelShape {
    /// Two layers of width 64 with four heads: 123 200 parameters, 0.5 MB as `f32`.
    pub const TINY: Self = Self { layers: 2, embedding: 64, heads: 4, feed_forward: 128 };

    /// A shape of `layers` blocks, `embedding` wide, with `heads` attention heads and a hidden layer of
    /// `feed_forward`.
    ///
    /// # Errors
    /// [`ModelShapeError`] when llama.cpp could not load the result.
    pub fn new(layers: u32, embedding: u32, heads: u32, feed_forward: u32) -> Result<Self, ModelShapeError> {
        if [layers, embedding, heads, feed_forward].contains(&0) {
            return Err(ModelShapeError::Zero);
        }
        if let Some(&width) = [embedding, feed_forward].iter().find(|width| !width.is_multiple_of(32)) {
            return Err(ModelShapeError::NotInBlocks { width });
        }
        if !embedding.is_multiple_of(heads * 2) {
            return Err(ModelShapeError::UnevenHeads { embedding, heads });
        }
        Ok(Self { layers, embedding, heads, feed_forward })
    }

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
        self.tensors().map(|tensor| crate::format::aligned(tensor.bytes(weights))).sum()
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
    Tensor { name, dimensions: vec![columns, rows], role: TensorRole::Matrix }
}

fn norm(name: String, width: u64) -> Tensor {
    Tensor { name, dimensions: vec![width], role: TensorRole::Norm }
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

    #[test]
    fn shapes_that_llama_cpp_cannot_load_are_refused() {
        assert_eq!(ModelShape::new(0, 64, 4, 128), Err(ModelShapeError::Zero));
        assert_eq!(ModelShape::new(1, 64, 4, 100), Err(ModelShapeError::NotInBlocks { width: 100 }));
        assert_eq!(ModelShape::new(1, 96, 5, 128), Err(ModelShapeError::UnevenHeads { embedding: 96, heads: 5 }));
        assert_eq!(ModelShape::new(2, 64, 4, 128), Ok(ModelShape::TINY));
    }
}
