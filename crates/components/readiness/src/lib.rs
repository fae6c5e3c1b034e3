//! Decides for every launch whether it is ready, or why not.
//!
//! Three parts observe, one decides:
//!
//! * A **tap** on the output lane runs a [`Matcher`](llama_warden_detectors::Matcher) over every line, in the task that reads
//!   the pipe.
//! * A **probe** asks the server itself, over a fresh connection, bounded in time and size.
//! * The **identity check** asks which model answers. The launcher, which owns the processes, says whose process listens.
//! * A pure **machine** per launch decides: a line makes it probe, an answer to our own probe is the proof.
//!
//! The way of one ready line, and its name at each station:
//!
//! 1. `Matcher::on_line` returns a **verdict** on the line: `Verdict::Ready`.
//! 2. `LaunchOutput` keeps the line as a **hint** (`ReadinessHint`) in the `OutputSummary` that the component takes next.
//! 3. The machine publishes the hint (`ReadyHinted`) and asks for a probe.
//! 4. The answer 200 is the **proof** (`Proof::Probe`). If the build cannot be probed, the line is (`Proof::ReadyLine`).
//! 5. Once listener and model are confirmed, the machine publishes `ReadyReached`. Its `via` names the stream of the hint.
//!
//! [`Readiness`] is the component around them. It handles neither pids nor signals. [`ReadinessMachine`] is public for the model
//! tests of the lifecycle, which run it against a simulated server.

mod component;
mod directory_watch;
mod failure;
mod ground_truth;
mod identity;
mod launch_output;
mod launch_requests;
mod machine;
mod pack_reloader;
mod tap;

pub use component::{MakeMatcher, Readiness};
pub use failure::{FailureEvidence, ReadinessFailure};
pub use ground_truth::{GroundTruth, Served, Serving};
pub use identity::Identity;
pub use machine::{
    HintStrength, OutputSummary, Probeable, ReadinessAction, ReadinessHint, ReadinessInput, ReadinessMachine,
    ReadinessPolicy, Startup,
};
