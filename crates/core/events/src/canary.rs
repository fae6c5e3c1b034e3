//! The trial of another build of llama-server beside the one that a server runs, and what came of it.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{CommandSet, FailureReason, ServerId};

/// Tries other builds. Owner: canary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CanaryCommand {
    /// Run another build beside a server and compare the two. The command's id is the seq of its `CanaryBegan`, which is the
    /// cause of its `CanaryCompleted`.
    RunCanary {
        /// The server.
        server: ServerId,
        /// The other build.
        binary: PathBuf,
        /// What both builds are asked to complete; absent for a built-in text.
        prompt: Option<String>,
        /// Replace the server's build by the other one if that proves itself.
        switch: bool,
    },
    /// Stop the canary of a server before it is done. A replacement that has begun goes on.
    CancelCanary {
        /// The server.
        server: ServerId,
    },
}

impl CommandSet for CanaryCommand {
    const NAME: &'static str = "canary";
}

/// The outcome of a canary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CanaryReport {
    /// The server.
    pub server: ServerId,
    /// How it ended.
    pub outcome: CanaryOutcome,
    /// The build that the server ran when the canary was compared with it; absent if it was not ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<BuildFigures>,
    /// The build of the canary.
    pub new: BuildFigures,
    /// The options of the server that the two builds get in different ways; all that the new build gets changed, where the old
    /// one did not run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<OptionDifference>,
    /// Warnings among the output of the new build that the old one did not print, as far as its output is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// How a canary ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum CanaryOutcome {
    /// The new build became ready and answered.
    Passed,
    /// The new build failed beside the old one, which was left alone.
    Failed {
        /// The reason, from the closed set.
        reason: FailureReason,
        /// The reason in words.
        detail: String,
        /// The last lines of output, oldest first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        lines: Vec<String>,
    },
    /// It was cancelled before it was done.
    Cancelled,
    /// The new build has replaced the old one, and was ready for `restart.stable-after`.
    Switched,
    /// The new build had replaced the old one and failed: the server runs the old one again.
    RolledBack {
        /// Why the new build was given up, and how the old one came back.
        detail: String,
    },
}

/// What was seen of a build.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BuildFigures {
    /// The executable, as configured.
    pub binary: PathBuf,
    /// The build in short form, where its version says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Arc<str>>,
    /// The dialect that spelled its options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<Arc<str>>,
    /// The pack that read its output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detector: Option<Arc<str>>,
    /// An earlier daemon launched its process, so that what it printed while it loaded is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_adopted: bool,
    /// Seconds from spawn to ready; the mean of the server's launches where the process was adopted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup_seconds: Option<f64>,
    /// Bytes that its process has for itself: anonymous memory, without files that are mapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// The answer to a request for a few tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion: Option<CompletionAnswer>,
}

/// The answer to a request for a few tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum CompletionAnswer {
    /// It completed the prompt.
    Tokens {
        /// How many tokens it wrote.
        tokens: u64,
        /// Seconds from the request to the end of the answer.
        seconds: f64,
        /// Tokens written per second: as the build measured it, else by `seconds`.
        tokens_per_second: f64,
    },
    /// It answered, but with no token, as a server of an embedding model does.
    Declined {
        /// What it answered.
        detail: String,
    },
    /// It did not answer.
    Missing {
        /// Why, in words.
        detail: String,
    },
}

/// An option that two builds get in different ways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OptionDifference {
    /// The option, as the user means it.
    pub option: String,
    /// What the old build gets; absent if the old build did not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What the new build gets.
    pub new: String,
    /// Why, for people.
    pub because: String,
}
