//! The file format of a detector pack, as serde and JSON Schema see it. What serde cannot check is checked in `pack`.

use llama_warden_events::{FailureReason, StreamName};
use llama_warden_plugin_files::BuildRange;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

/// A detector pack: how one era of llama-server builds says that it loads, is ready, or failed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "Detector pack")]
pub(crate) struct PackFile {
    /// Its name, 1 to 64 of `A-Z a-z 0-9 . _ -`. An equal name replaces a built-in pack.
    #[schemars(with = "String", regex(pattern = r"^[A-Za-z0-9._-]{1,64}$"))]
    pub(crate) name: Spanned<String>,
    /// One line for people.
    #[serde(default)]
    pub(crate) description: String,
    /// The build numbers that it fits. Not judged where a build says no number, or 1, as those in llama-cpp-python do.
    #[schemars(with = "Option<BuildRange>")]
    pub(crate) builds: Option<Spanned<BuildRange>>,
    /// Long options that the build's `--help` has to list, all of them.
    #[serde(default)]
    pub(crate) help_lists: Vec<String>,
    /// Long options that the build's `--help` must not list, none of them.
    #[serde(default)]
    pub(crate) help_lacks: Vec<String>,
    /// How to ask the server whether it is ready.
    #[serde(default)]
    #[schemars(with = "ProbeEntry")]
    pub(crate) probe: Option<Spanned<ProbeEntry>>,
    /// Structured output that the pack reads, where a server was told to write it.
    #[serde(default)]
    pub(crate) structured: Vec<StructuredSource>,
    /// The patterns. Of several that match a line the first one counts.
    #[serde(default)]
    pub(crate) pattern: Vec<PatternEntry>,
    /// Lines with what they have to be taken for; checked when the pack is loaded.
    #[serde(default)]
    pub(crate) example: Vec<ExampleEntry>,
}

/// `probe = { path = "/health" }` or `probe = "none"`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected { path = \"/health\" } or \"none\"")]
pub(crate) enum ProbeEntry {
    Http(HttpProbeEntry),
    Word(ProbeWord),
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpProbeEntry {
    /// The path that answers 200 when the server is ready and 503 while it loads.
    #[schemars(regex(pattern = r"^/\S*$"))]
    pub(crate) path: String,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ProbeWord {
    /// These builds have no such path: the ready line, from a listener of our own, is the proof.
    None,
}

/// Structured output of a build, read beside its plain lines. The protocol of a router's child is none of them: it changes
/// how a server takes TERM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StructuredSource {
    /// What `--log-jsonl` writes: one JSON object a line on standard output. Patterns see its `msg`.
    LogJsonl,
}

/// One pattern.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatternEntry {
    /// What a line that matches says.
    pub(crate) verdict: PatternVerdict,
    /// The stream that it is looked for on.
    #[serde(default)]
    pub(crate) stream: StreamFilter,
    /// A regular expression over bytes, at most 1024 bytes long. It sees the line without colours, carriage returns and
    /// the prefix `M.SS.mmm.uuu L `. May name the groups `port` (of a ready line; others are not ours) and `percent`.
    #[schemars(with = "String", length(max = 1024))]
    pub(crate) regex: Spanned<String>,
    /// The reason, for failures and only for them.
    pub(crate) reason: Option<FailureReason>,
    /// For failures: counts only when no other failure was seen.
    #[serde(default)]
    pub(crate) weak: bool,
}

/// What a pattern says of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PatternVerdict {
    /// The model is being loaded.
    Progress,
    /// It is worth looking now.
    NearlyReady,
    /// The server says that it is ready.
    Ready,
    /// Something failed.
    Failure,
    /// The line echoes one of our own requests, and is no sign of life.
    Echo,
}

/// The streams that a pattern is looked for on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StreamFilter {
    /// Both.
    #[default]
    Any,
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
}

impl StreamFilter {
    /// Whether it lets a stream through.
    pub const fn admits(self, stream: StreamName) -> bool {
        matches!(
            (self, stream),
            (Self::Any, _) | (Self::Stderr, StreamName::Stderr) | (Self::Stdout, StreamName::Stdout)
        )
    }
}

/// A line with what it has to be taken for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExampleEntry {
    /// The line as the server writes it, without its line end.
    #[schemars(with = "String")]
    pub(crate) line: Spanned<String>,
    /// The stream that it comes on.
    pub(crate) stream: StreamName,
    /// What it has to be taken for.
    pub(crate) verdict: ExampleVerdict,
    /// The reason, for failures.
    pub(crate) reason: Option<FailureReason>,
}

/// What an example has to be taken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExampleVerdict {
    /// No pattern may match.
    None,
    /// The model is being loaded.
    Progress,
    /// It is worth looking now.
    NearlyReady,
    /// The server says that it is ready.
    Ready,
    /// Something failed.
    Failure,
    /// The line echoes one of our own requests.
    Echo,
}

impl ExampleVerdict {
    /// Its name, as in a pack.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Progress => "progress",
            Self::NearlyReady => "nearly-ready",
            Self::Ready => "ready",
            Self::Failure => "failure",
            Self::Echo => "echo",
        }
    }
}

impl PatternVerdict {
    /// Its name, as in a pack.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Progress => "progress",
            Self::NearlyReady => "nearly-ready",
            Self::Ready => "ready",
            Self::Failure => "failure",
            Self::Echo => "echo",
        }
    }
}

/// The JSON Schema of a detector pack.
pub fn detector_schema() -> schemars::Schema {
    schemars::schema_for!(PackFile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_describes_every_key_and_allows_no_other() {
        let schema = detector_schema().to_value();
        let keys: Vec<_> = schema["properties"].as_object().expect("an object").keys().map(String::as_str).collect();
        let mut documented =
            ["name", "description", "builds", "help-lists", "help-lacks", "probe", "structured", "pattern", "example"];
        documented.sort_unstable();
        assert_eq!(keys, documented);
        assert_eq!(schema["additionalProperties"], false);
        for (key, property) in schema["properties"].as_object().expect("an object") {
            assert!(property["description"].is_string(), "`{key}` is not described");
        }
        let reasons = schema["$defs"]["FailureReason"].to_string();
        assert!(FailureReason::ALL.iter().all(|reason| reasons.contains(reason.as_str())), "{reasons}");
    }
}
