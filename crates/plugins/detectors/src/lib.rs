//! Says what a line of llama-server's output means.
//!
//! llama-server changes its log messages every few months. A **detector pack** ([`Pack`]) is a TOML file with regular
//! expressions for the builds of one era, and with example lines that are checked when the pack is loaded. [`PackSet`]
//! holds the built-in packs and those of a directory, and chooses the one that fits a build. A [`Matcher`] made from a pack
//! turns each line into a [`Verdict`]: progress, nearly ready, ready, failure, echo of our own request, or nothing.
//!
//! A verdict is a hint, never a proof. The `readiness` component decides, with a probe of its own.
//!
//! The crate is pure: it uses neither the bus nor tokio, and reads no clock.
//!
//! ```
//! use llama_warden_detectors::{Matcher, PackSet, Verdict};
//! use llama_warden_events::{FailureReason, StreamName};
//!
//! let text = r#"
//!     name = "my-build"
//!     builds = { min = 12000 }
//!
//!     [[pattern]]
//!     verdict = "ready"
//!     regex = '^server up on port (?P<port>\d+)$'
//!
//!     [[example]]
//!     line = "server up on port 8080"
//!     stream = "stderr"
//!     verdict = "ready"
//! "#;
//! let pack = PackSet::built_in().parse("my-build.toml".as_ref(), text)?;
//!
//! // This launch was given port 8001: a ready line that names another port says nothing about it.
//! let mut matcher = pack.matcher(Some(8001));
//! assert_eq!(matcher.on_line(StreamName::Stderr, b"server up on port 8001"), Verdict::Ready);
//! assert_eq!(matcher.on_line(StreamName::Stderr, b"server up on port 8002"), Verdict::Nothing);
//!
//! // Every pack also has the failure patterns of the built-in pack `generic`.
//! let failure = matcher.on_line(StreamName::Stderr, b"error: invalid argument: --x");
//! assert!(matches!(failure, Verdict::Failure { reason: FailureReason::BadArgument, .. }));
//! # Ok::<(), llama_warden_detectors::PackError>(())
//! ```
//!
//! [`learn()`] writes a pack for an unknown build from recordings of a few starts.

mod built_in;
mod learn;
mod line;
mod matcher;
mod pack;
mod pack_file;
mod patterns;

pub use built_in::GENERIC;
pub use learn::{HealthPath, LearnError, LearnSubject, LearnedPack, RecordedLine, Recording, learn};
pub use line::{message_text, strip_controls};
pub use llama_warden_plugin_files::{BuildRange, FileError as PackError, Origin as PackOrigin, PluginSetError};
pub use matcher::{Matcher, Verdict};
pub use pack::{Pack, PackExample, PackSet, ProbeWay};
pub use pack_file::{ExampleVerdict, PatternVerdict, StreamFilter, StructuredSource, detector_schema};
pub use patterns::{DetectorPattern, PatternMatcher};
