//! A model: its settings, its metadata, and its serialisation as a stream.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

use fastrand::Rng;

use crate::{
    alignment::{ALIGNMENT, aligned},
    damage::{self, Damage},
    format::{HeaderWriter, PairValue},
    shape::ModelShape,
    vocabulary,
    weights::{WeightFormat, WeightPool},
};

/// The settings of a random model. The default is [`ModelShape::TINY`] in `f32`, half a megabyte.
#[derive(Debug, Clone)]
pub struct TinyModel {
    name: String,
    seed: u64,
    shape: ModelShape,
    weights: WeightFormat,
    context_length: u32,
}

impl TinyModel {
    /// A model with the default settings and the `general.name` `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), seed: 0, shape: ModelShape::TINY, weights: WeightFormat::F32, context_length: 2048 }
    }

    /// Sets the seed of the weights; the default is 0.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Sets the dimensions of the network.
    #[must_use]
    pub fn shape(self, shape: ModelShape) -> Self {
        Self { shape, ..self }
    }

    /// Sets the format of the matrices.
    #[must_use]
    pub fn weights(self, weights: WeightFormat) -> Self {
        Self { weights, ..self }
    }

    /// Sets the context length in the header, in tokens; the default is 2048.
    #[must_use]
    pub fn context_length(self, context_length: u32) -> Self {
        Self { context_length, ..self }
    }

    /// Sets a shape whose weights take at least `bytes`, in the format that was set *before* this call. A large model takes
    /// long to load.
    #[must_use]
    pub fn at_least_bytes(self, bytes: u64) -> Self {
        let shape = ModelShape::at_least_bytes(bytes, self.weights);
        self.shape(shape)
    }

    /// Writes the model to the file `path`, which is replaced.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        self.write_to(&mut file)?;
        file.into_inner()?;
        Ok(())
    }

    /// Writes the model into `out`, in many small writes.
    ///
    /// # Errors
    /// If a write fails.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.header())?;
        let mut rng = Rng::with_seed(self.seed);
        let pool = WeightPool::new(self.weights, &mut rng);
        for tensor in self.shape.tensors() {
            let bytes = tensor.bytes(self.weights);
            if tensor.is_norm() {
                write_ones(bytes, out)?;
            } else {
                pool.write(bytes, &mut rng, out)?;
            }
            let padding = aligned(bytes) - bytes;
            out.write_all(&[0; ALIGNMENT as usize][..padding as usize])?;
        }
        out.flush()
    }

    /// Writes the model to the file `path`, and then damages the file.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_damaged(&self, path: &Path, damage: Damage) -> io::Result<()> {
        self.write(path)?;
        damage::damage_file(path, damage, self.header().len() as u64)
    }

    fn header(&self) -> Vec<u8> {
        let mut header = HeaderWriter::default();
        for (key, value) in self.metadata() {
            header.pair(key, &value);
        }
        let mut offset = 0;
        for tensor in self.shape.tensors() {
            header.tensor(&tensor, self.weights, offset);
            offset += aligned(tensor.bytes(self.weights));
        }
        header.finish()
    }

    fn metadata(&self) -> Vec<(&'static str, PairValue)> {
        let shape = self.shape;
        let (tokens, kinds): (Vec<String>, Vec<i32>) = vocabulary::tokens().unzip();
        vec![
            ("general.architecture", PairValue::String("llama".into())),
            ("general.name", PairValue::String(self.name.clone())),
            ("general.size_label", PairValue::String(format!("{}K", shape.parameters() / 1000))),
            ("general.file_type", PairValue::U32(self.weights.layout().file_type)),
            ("general.quantization_version", PairValue::U32(2)),
            ("llama.block_count", PairValue::U32(shape.layers)),
            ("llama.context_length", PairValue::U32(self.context_length)),
            ("llama.embedding_length", PairValue::U32(shape.embedding)),
            ("llama.feed_forward_length", PairValue::U32(shape.feed_forward)),
            ("llama.attention.head_count", PairValue::U32(shape.heads)),
            ("llama.attention.head_count_kv", PairValue::U32(shape.heads)),
            ("llama.attention.layer_norm_rms_epsilon", PairValue::F32(1e-5)),
            ("llama.rope.dimension_count", PairValue::U32(shape.embedding / shape.heads)),
            ("llama.vocab_size", PairValue::U32(vocabulary::SIZE as u32)),
            ("tokenizer.ggml.model", PairValue::String("llama".into())),
            ("tokenizer.ggml.tokens", PairValue::StringArray(tokens)),
            ("tokenizer.ggml.scores", PairValue::F32Array(vocabulary::scores().collect())),
            ("tokenizer.ggml.token_type", PairValue::I32Array(kinds)),
            ("tokenizer.ggml.unknown_token_id", PairValue::U32(vocabulary::UNKNOWN)),
            ("tokenizer.ggml.bos_token_id", PairValue::U32(vocabulary::BEGIN)),
            ("tokenizer.ggml.eos_token_id", PairValue::U32(vocabulary::END)),
            ("tokenizer.ggml.add_bos_token", PairValue::Bool(true)),
            ("tokenizer.chat_template", PairValue::String(vocabulary::CHAT_TEMPLATE.into())),
        ]
    }
}

fn write_ones(bytes: u64, out: &mut impl Write) -> io::Result<()> {
    (0..bytes / 4).try_for_each(|_| out.write_all(&1.0_f32.to_le_bytes()))
}
