//! The file format of a detector pack, as serde and JSON Schema see it.
//!
//! The doc comments of the fields are the descriptions in `docs/schema/detector.json`. `pack` checks what serde cannot express.

use llama_warden_events::{FailureReason, StreamName};
use llama_warden_plugin_files::BuildRange;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;
use toml::Spanned;

/// A detector pack: how one era of llama-server builds says that it loads, is ready, or failed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "Detector pack")]
pub(crate) struct PackFile {
    /// The pack's name, 1 to 64 of `A-Z a-z 0-9 . _ -`. An equal name replaces a built-in pack.
    #[schemars(with = "String", regex(pattern = r"^[A-Za-z0-9._-]{1,64}$"))]
    pub(crate) name: Spanned<String>,
    /// One line for people.
    #[serde(default)]
    pub(crate) description: String,
    /// The build numbers that the pack fits. Ignored for a build that reports no number, or 1, as those in llama-cpp-python
    /// do.
    #[schemars(with = "Option<BuildRange>")]
    pub(crate) builds: Option<Spanned<BuildRange>>,
    /// Long options that the build's `--help` must list, all of them.
    #[serde(default)]
    pub(crate) help_lists: Vec<String>,
    /// Long options that the build's `--help` must not list, none of them.
    #[serde(default)]
    pub(crate) help_lacks: Vec<String>,
    /// How to ask the server whether it is ready.
    #[serde(default)]
    #[schemars(with = "ProbeEntry")]
    pub(crate) probe: Option<Spanned<ProbeEntry>>,
    /// Structured output that the pack reads, if the server writes it.
    #[serde(default)]
    pub(crate) structured: Vec<StructuredSource>,
    /// The patterns. Of several that match a line, the first one counts.
    #[serde(default)]
    pub(crate) pattern: Vec<PatternEntry>,
    /// Lines with the verdict that they must get; checked when the pack is loaded.
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
    /// These builds have no such path: the ready line is the proof, if the server's own process listens.
    None,
}

/// Structured output of a build, read beside its plain lines.
///
/// The protocol of a router's child is not among them: a server that speaks it handles TERM differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum StructuredSource {
    /// The output of `--log-jsonl`: one JSON object per line on standard output. Patterns see its `msg`.
    LogJsonl,
}

/// One pattern: lines that match its regular expression get its verdict.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatternEntry {
    /// The verdict on a line that matches.
    pub(crate) verdict: PatternVerdict,
    /// The streams whose lines the pattern sees.
    #[serde(default)]
    pub(crate) stream: StreamFilter,
    /// A regular expression over bytes, at most 1024 bytes long. It sees the line without colours, carriage returns, the
    /// time `M.SS.mmm.uuu `, the level `L ` and a router's `[PORT] `. It may name the groups `port` (a line that names another
    /// port than the server's is ignored) and `percent` (0 to 100); `prompt` and `decode` name `ms` and `tokens`,
    /// the other three of requests
    /// name `slot`, and all five may name `slot` and `task`.
    #[schemars(with = "String", length(max = 1024))]
    pub(crate) regex: Spanned<String>,
    /// The reason of a failure: required for failures, refused for everything else.
    pub(crate) reason: Option<FailureReason>,
    /// For failures: the line explains the end only if no other failure line was seen.
    #[serde(default)]
    pub(crate) weak: bool,
    /// For progress: the line comes only after the server has its model, so that a download is over.
    #[serde(default)]
    pub(crate) loads: bool,
    /// For requests: these builds print the line with time or level, or in JSON, unless they print every line without. So once
    /// there was a line with, one without does not count: a client made the server print it.
    #[serde(default)]
    pub(crate) prefixed: bool,
    /// For `prompt` and `decode`: the line counts only right behind a line of `slot-timings`, or behind another one that does.
    #[serde(default)]
    pub(crate) announced: bool,
}

/// The verdict of a pattern on a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum PatternVerdict {
    /// The server is loading the model.
    Progress,
    /// The server may be ready soon: probe now.
    NearlyReady,
    /// The server says that it is ready.
    Ready,
    /// Something failed.
    Failure,
    /// The line echoes one of our own requests. It is no sign of life.
    Echo,
    /// The timings of a slot follow, each on a line of its own.
    SlotTimings,
    /// How many tokens of a prompt were read, and how long that took.
    Prompt,
    /// How many tokens were generated, and how long that took: one line for each request that ended.
    Decode,
    /// A slot begins to work.
    SlotBusy,
    /// A slot is free again.
    SlotReleased,
}

/// The streams whose lines a pattern sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum StreamFilter {
    /// Standard error and standard output.
    #[default]
    Any,
    /// Standard error alone.
    Stderr,
    /// Standard output alone.
    Stdout,
}

impl StreamFilter {
    /// Whether the filter lets lines of `stream` through.
    pub const fn admits(self, stream: StreamName) -> bool {
        matches!(
            (self, stream),
            (Self::Any, _) | (Self::Stderr, StreamName::Stderr) | (Self::Stdout, StreamName::Stdout)
        )
    }
}

/// A line with the verdict that it must get.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExampleEntry {
    /// The line as the server writes it, without its line end.
    #[schemars(with = "String")]
    pub(crate) line: Spanned<String>,
    /// The stream on which the server writes it.
    pub(crate) stream: StreamName,
    /// The verdict that it must get.
    pub(crate) verdict: ExampleVerdict,
    /// The reason that a failure must get; any reason if it is absent.
    pub(crate) reason: Option<FailureReason>,
}

/// The verdict that an example must get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum ExampleVerdict {
    /// No pattern may match.
    None,
    /// The server is loading the model.
    Progress,
    /// The server may be ready soon: probe now.
    NearlyReady,
    /// The server says that it is ready.
    Ready,
    /// Something failed.
    Failure,
    /// The line echoes one of our own requests.
    Echo,
    /// The timings of a slot follow, each on a line of its own.
    SlotTimings,
    /// How many tokens of a prompt were read, and how long that took.
    Prompt,
    /// How many tokens were generated, and how long that took: one line for each request that ended.
    Decode,
    /// A slot begins to work.
    SlotBusy,
    /// A slot is free again.
    SlotReleased,
}

impl ExampleVerdict {
    /// The verdict's word in a pack.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl PatternVerdict {
    /// The verdict's word in a pack.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Whether the line is about a request.
    pub const fn is_request(self) -> bool {
        matches!(self, Self::SlotTimings | Self::Prompt | Self::Decode | Self::SlotBusy | Self::SlotReleased)
    }

    /// The groups that a pattern with this verdict has to name, and those that it may name.
    pub(crate) const fn groups(self) -> (&'static [&'static str], &'static [&'static str]) {
        match self {
            Self::Prompt | Self::Decode => (&["ms", "tokens"], &["ms", "tokens", "slot", "task"]),
            Self::SlotTimings | Self::SlotBusy | Self::SlotReleased => (&["slot"], &["slot", "task"]),
            _ => (&[], &["port", "percent"]),
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
