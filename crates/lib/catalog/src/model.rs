//! The description of a discovered model.

use std::path::PathBuf;

use llama_warden_events::ServerId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A model that was found, as the server that it may become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiscoveredModel {
    /// The server's id, unique in its report: name, size and quantisation, such as `qwen3_8b_q4km`.
    pub id: ServerId,
    /// The file to load, absolute and valid UTF-8; of a split model the first shard.
    pub path: PathBuf,
    /// The server's port; `None` until it is given one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Whether the server is started by itself. Discovery enables everything that it lists.
    pub enabled: bool,
    /// The quantisation, such as `Q4_K_M`; `None` if it is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Whether the model thinks before it answers, by its chat template or its name.
    pub thinking: bool,
    /// The name that the header gives, else the file's; one line without control characters.
    pub name: String,
    /// The purpose of the model.
    pub kind: ModelKind,
    /// The architecture, in llama.cpp's words: `llama`, `qwen3moe`.
    pub architecture: String,
    /// Weights in all tensors.
    pub parameters: u64,
    /// The size of all shards in bytes, without the projector.
    pub file_bytes: u64,
    /// The context that the model is trained for, in tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u64>,
    /// Whether the file brings a chat template.
    pub chat_template: bool,
    /// The experts of a mixture; `None` for a dense model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<u64>,
    /// How many of them work on one token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts_used: Option<u64>,
    /// The measures of the network.
    pub shape: NetworkShape,
    /// All shards in order, the first included; empty for a model of one file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shards: Vec<PathBuf>,
    /// The projector for images or audio, for `--mmproj`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub projector: Option<PathBuf>,
}

/// The purpose of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ModelKind {
    /// It writes text.
    Generative,
    /// It turns texts into vectors; llama-server wants `--embedding`.
    Embedding,
    /// It orders texts by how well they answer a question; llama-server wants `--reranking`.
    Reranking,
}

/// The measures of a network, for estimates of memory. Each is absent where the header does not say it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkShape {
    /// Number of transformer layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_count: Option<u64>,
    /// The width of the network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_length: Option<u64>,
    /// The width of the hidden layer; of a mixture that of all experts which work on one token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feed_forward_length: Option<u64>,
    /// Words of the vocabulary.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vocabulary: Option<u64>,
    /// Attention heads of a layer; where layers differ, of the widest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_count: Option<u64>,
    /// Key-value heads of all layers together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<u64>,
    /// Those of them that look back no further than `sliding_window`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windowed_kv_heads: Option<u64>,
    /// How many tokens they look back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<u64>,
    /// The width of one key, where it is not the embedding divided by the heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_length: Option<u64>,
    /// The width of one value, likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_length: Option<u64>,
}

impl NetworkShape {
    /// The widths of one key and of one value; `None` where the header lacks a measure.
    pub fn head_widths(&self) -> Option<(u64, u64)> {
        let shared = || self.embedding_length?.checked_div(self.head_count?);
        Some((self.key_length.or_else(shared)?, self.value_length.or_else(shared)?))
    }
}
