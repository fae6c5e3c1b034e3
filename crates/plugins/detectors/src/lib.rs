//! Detector packs: what a line of llama-server's output means.

mod learn;
mod library;
mod line;
mod matcher;
mod pack;
mod pack_file;
mod patterns;

pub use learn::{HealthPath, LearnError, LearnSubject, LearnedPack, RecordedLine, Recording, learn};
pub use library::{GENERIC, PackSet};
pub use line::strip_controls;
pub use llama_warden_plugin_files::{BuildRange, FileError as PackError, Origin as PackOrigin, PluginSetError};
pub use matcher::{Matcher, Verdict};
pub use pack::{DetectorPattern, Pack, PackExample, ProbeWay};
pub use pack_file::{ExampleVerdict, PatternVerdict, StreamFilter, StructuredSource, detector_schema};
pub use patterns::PatternMatcher;
