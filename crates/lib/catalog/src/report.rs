//! The outcome of a discovery: models, what was passed over, and problems.

use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::DiscoveredModel;

/// The result of a discovery.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CatalogReport {
    /// The models, by id.
    pub models: Vec<DiscoveredModel>,
    /// Valid files that are not models to serve, by path.
    pub skipped: Vec<Skipped>,
    /// Files and directories that cannot be used, by path. No problem prevents other models from being found.
    pub problems: Vec<ModelProblem>,
}

/// A valid file that is not a model to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Skipped {
    /// The file.
    pub path: String,
    /// Its role.
    pub role: FileRole,
}

/// The role of a GGUF file that is not a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FileRole {
    /// A tokenizer without weights.
    Vocabulary,
    /// A LoRA adapter.
    Adapter,
    /// Statistics for quantising.
    ImportanceMatrix,
    /// Directions to steer a model by.
    ControlVector,
}

/// Something that cannot be used, with the reason and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{path}: {detail}")]
pub struct ModelProblem {
    /// The file or directory; bytes that are not UTF-8 are shown as `\u{FFFD}`, control characters escaped.
    pub path: String,
    /// Why, from a closed set.
    pub reason: ProblemReason,
    /// The same for people: a lower-case fragment.
    pub detail: String,
    /// The next step.
    pub help: String,
}

/// Why something cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemReason {
    /// A directory cannot be listed, or is none.
    DirectoryUnreadable,
    /// Directories are nested deeper, or have more entries, than is scanned.
    DirectoryTooLarge,
    /// A file cannot be opened or read.
    FileUnreadable,
    /// A FIFO, socket or device bears the name of a model. It is not opened.
    NotAFile,
    /// A name is not UTF-8 or holds control characters.
    NameUnusable,
    /// A symbolic link leads nowhere.
    LinkBroken,
    /// A symbolic link leads back to itself or to a directory that contains it.
    LinkLoop,
    /// A symbolic link leads to a directory outside of those that are scanned.
    LinkOutside,
    /// The file is empty or no GGUF.
    NotGguf,
    /// The version of GGUF is not one that llama.cpp reads.
    VersionUnsupported,
    /// The file was written for machines of the other byte order.
    ByteOrderForeign,
    /// The file ends before its header or its tensors do.
    Truncated,
    /// The header is longer than the limit that is read.
    HeaderTooLong,
    /// The header breaks the rules of GGUF, or does not name an architecture.
    HeaderMalformed,
    /// A shard of a split model is not there.
    ShardMissing,
    /// Another shard than the first was named as the model.
    ShardNotFirst,
    /// Name and header of a shard say different things.
    ShardMismatched,
    /// A vocabulary, an adapter, a projector or the like was named as a model.
    NotAModel,
    /// A projector fits none of the models beside it.
    ProjectorUnpaired,
}

impl FileRole {
    /// The role with its article, for messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Vocabulary => "a vocabulary without weights",
            Self::Adapter => "a LoRA adapter",
            Self::ImportanceMatrix => "an importance matrix",
            Self::ControlVector => "a control vector",
        }
    }
}

impl ModelProblem {
    pub(crate) fn new(path: &Path, reason: ProblemReason, detail: impl Into<String>) -> Self {
        Self { path: shown(path), reason, detail: detail.into(), help: reason.help().to_owned() }
    }
}

impl ProblemReason {
    /// The next step for the user.
    const fn help(self) -> &'static str {
        match self {
            Self::DirectoryUnreadable => "name an existing directory that llama-warden may list",
            Self::DirectoryTooLarge => "name the directories that hold the models themselves",
            Self::FileUnreadable => "let llama-warden's user read the file",
            Self::NotAFile => "put a regular file in its place, or rename it",
            Self::NameUnusable => "rename it to UTF-8 without control characters",
            Self::LinkBroken => "restore the link's target, or remove the link",
            Self::LinkLoop => "remove the link",
            Self::LinkOutside => {
                "set follow-links = true in [models], or add the link's target to the scanned directories"
            }
            Self::NotGguf => "download it again, or convert it with llama.cpp's convert_hf_to_gguf.py",
            Self::VersionUnsupported => "convert the model again with a current llama.cpp",
            Self::ByteOrderForeign => "convert it with llama.cpp's gguf_convert_endian.py",
            Self::Truncated => "download or copy it again: it is incomplete",
            Self::HeaderTooLong | Self::HeaderMalformed => "download it again, or convert the model again",
            Self::ShardMissing => "download all shards into one directory",
            Self::ShardNotFirst => "name the first shard",
            Self::ShardMismatched => "give all shards of one split the names that llama-gguf-split gave them",
            Self::NotAModel => "name the file that holds the model's weights",
            Self::ProjectorUnpaired => "put it beside its model and begin both names alike",
        }
    }
}

/// A path as it may be printed.
pub(crate) fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() { out.extend(letter.escape_default()) } else { out.push(letter) }
    }
    out
}
