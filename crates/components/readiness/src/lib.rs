//! One verdict per incarnation: ready, or why not.
//!
//! Three parts see, one decides:
//!
//! * A **tap** on the output lane runs a [`Matcher`] over every line, in the task that reads the pipe. What it matches is
//!   a hint (*look now*), a sign of progress, or evidence for the case that the process ends. [`PackSet`] holds the
//!   detector packs that say what the lines of each era of llama-server mean.
//! * A **probe** asks the server itself, over a fresh connection, bounded in time and size.
//! * The **identity check** asks which model answers; the launcher, which knows processes, says who listens.
//! * A pure **machine** per incarnation puts them together: a line makes it look, an answer of our own probe proves.
//!
//! [`Readiness`] is the component around them. It knows no pid and no signal.

mod component;
mod directory_watch;
mod failure;
mod identity;
mod learn;
mod library;
mod line;
mod machine;
mod matcher;
mod pack;
mod pack_file;
mod patterns;
mod reading;
mod shelf;
mod tap;

pub use component::{Readiness, ReadinessError};
pub use identity::Identity;
pub use learn::{
    GroundTruth, HealthPath, LearnError, Lesson, RecordedLine, Recording, Served, Serving, Subject, learn,
};
pub use library::{GENERIC, PackSet};
pub use llama_warden_plugin_files::{BuildRange, FileError as PackError, Origin as PackOrigin, PluginSetError};
pub use llama_warden_probe::ProbeAnswer as Answer;
pub use matcher::{Matcher, Verdict};
pub use pack::{Example, Pack, Pattern, ProbeWay};
pub use pack_file::{ExampleVerdict, PatternVerdict, StreamFilter, StructuredSource, detector_schema};
pub use patterns::PatternMatcher;
