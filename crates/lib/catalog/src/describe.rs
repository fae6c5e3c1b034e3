//! From the words of a header and the name of its file to what a model is.

use std::path::Path;

use crate::gguf::{GgufHeader, file_type_name};
use crate::model::ModelKind;
use crate::name::{Labelled, ShardName, compact, words};
use crate::report::FileRole;

/// The role of a valid file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ModelFileRole {
    Model,
    /// Converts images or audio for a model.
    Projector,
    Other(FileRole),
}

/// Architectures that turn texts into vectors and never write any.
const ENCODERS: [&str; 11] = [
    "bert",
    "eurobert",
    "gemma-embedding",
    "jina-bert-v2",
    "jina-bert-v3",
    "llama-embed",
    "modern-bert",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "t5encoder",
];

/// Texts in the chat templates of thinking models.
const THINKING_MARKS: [&str; 7] =
    ["<think>", "[THINK]", "enable_thinking", "reasoning", "thinking_budget", "<|channel|>analysis", "<seed:think>"];

/// Words in the names of thinking models.
const THINKING_WORDS: [&str; 7] = ["thinking", "think", "thinker", "reasoning", "reasoner", "r1", "qwq"];

/// `llama_pooling_type` of models that rank.
const POOLING_NONE: u64 = 0;
const POOLING_RANK: u64 = 4;

/// The name of a file without its extension.
pub(crate) fn stem(path: &Path) -> &str {
    path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
}

/// A file's name without extension and shard number, split into name and quantisation.
pub(crate) fn labelled(path: &Path) -> Labelled<'_> {
    let stem = stem(path);
    Labelled::parse(ShardName::parse(stem).map_or(stem, |shard| shard.prefix))
}

/// The role of the file at `path`; for a split model `header` holds the tensors of all shards.
pub(crate) fn role(header: &GgufHeader, path: &Path) -> ModelFileRole {
    let file_name = stem(path).to_ascii_lowercase();
    let is_vocabulary = header.tensors.count == 0 || file_name.starts_with("ggml-vocab");
    match (header.file_role.as_deref(), header.architecture.as_deref()) {
        (Some("adapter"), _) => ModelFileRole::Other(FileRole::Adapter),
        (Some("imatrix"), _) => ModelFileRole::Other(FileRole::ImportanceMatrix),
        _ if is_vocabulary => ModelFileRole::Other(FileRole::Vocabulary),
        (_, Some("controlvector")) => ModelFileRole::Other(FileRole::ControlVector),
        (_, Some("clip")) | (Some("mmproj"), _) => ModelFileRole::Projector,
        _ if file_name.starts_with("mmproj") => ModelFileRole::Projector,
        _ => ModelFileRole::Model,
    }
}

/// The purpose of the model: by its pooling and architecture, else by its name.
pub(crate) fn kind(header: &GgufHeader, path: &Path) -> ModelKind {
    let named = |wanted: &[&str]| all_words(header, path).any(|word| wanted.contains(&word.as_str()));
    let is_encoder = header.architecture.as_deref().is_some_and(|name| ENCODERS.contains(&name));
    match header.pooling_type.unwrap_or(POOLING_NONE) {
        POOLING_RANK => ModelKind::Reranking,
        pooling if pooling != POOLING_NONE && !is_encoder => ModelKind::Embedding,
        _ if named(&["reranker", "rerank"]) => ModelKind::Reranking,
        _ if is_encoder || named(&["embedding", "embeddings", "embed"]) => ModelKind::Embedding,
        _ => ModelKind::Generative,
    }
}

/// Whether the model thinks before it answers.
pub(crate) fn is_thinking(header: &GgufHeader, path: &Path) -> bool {
    let template = header.chat_template.as_deref().unwrap_or_default();
    kind(header, path) == ModelKind::Generative
        && (THINKING_MARKS.iter().any(|mark| template.contains(mark))
            || all_words(header, path).any(|word| THINKING_WORDS.contains(&word.as_str())))
}

/// The quantisation: what the header says of the whole file, else the label in its name where that refines what most
/// tensors are, else the latter, else the label.
pub(crate) fn tier(header: &GgufHeader, path: &Path) -> Option<String> {
    if let Some(name) = header.file_type.and_then(file_type_name) {
        return Some(name.to_owned());
    }
    let label = labelled(path).label.map(str::to_ascii_uppercase);
    match (header.tensors.dominating_type(), label) {
        (Some(dominating), Some(label)) if compact(&label).starts_with(&compact(dominating)) => Some(label),
        (Some(dominating), _) => Some(dominating.to_owned()),
        (None, label) => label,
    }
}

fn all_words(header: &GgufHeader, path: &Path) -> impl Iterator<Item = String> {
    words(header.name.as_deref().unwrap_or_default()).chain(words(stem(path)))
}
