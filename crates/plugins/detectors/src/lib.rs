//! Detector packs: what a line of llama-server's output means.

mod built_in;
mod learn;
mod line;
mod matcher;
mod pack;
mod pack_file;
mod patterns;

pub use built_in::GENERIC;
pub use learn::{HealthPath, LearnError, LearnSubject, LearnedPack, RecordedLine, Recording, learn};
pub use line::strip_controls;
pub use llama_warden_plugin_files::{BuildRange, FileError as PackError, Origin as PackOrigin, PluginSetError};
pub use matcher::{Matcher, Verdict};
pub use pack::{Pack, PackExample, PackSet, ProbeWay};
pub use pack_file::{ExampleVerdict, PatternVerdict, StreamFilter, StructuredSource, detector_schema};
pub use patterns::{DetectorPattern, PatternMatcher};
