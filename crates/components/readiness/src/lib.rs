//! One verdict per incarnation: ready, or why not.
//!
//! Three parts see, one decides:
//!
//! * A **tap** on the output lane runs a [`Matcher`](llama_warden_detectors::Matcher) over every line, in the task that reads the pipe. What it matches is
//!   a hint (*look now*), a sign of progress, or evidence for the case that the process ends. [`PackSet`](llama_warden_detectors::PackSet) holds the
//!   detector packs that say what the lines of each era of llama-server mean.
//! * A **probe** asks the server itself, over a fresh connection, bounded in time and size.
//! * The **identity check** asks which model answers; the launcher, which knows processes, says who listens.
//! * A pure **machine** per incarnation puts them together: a line makes it look, an answer of our own probe proves.
//!
//! [`Readiness`] is the component around them. It knows no pid and no signal.

mod component;
mod directory_watch;
mod failure;
mod ground_truth;
mod identity;
mod launch_output;
mod machine;
mod pack_reloader;
mod tap;

pub use component::{Readiness, ReadinessError};
pub use ground_truth::{GroundTruth, Served, Serving};
pub use identity::Identity;
pub use llama_warden_probe::Answer;
