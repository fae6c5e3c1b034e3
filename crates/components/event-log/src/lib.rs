//! The event log: every event of each run of the daemon as a line of JSON.
//!
//! `events.jsonl` in the state directory holds the events of several runs, one after the other, so that two starts do not lose
//! the crash before them. When the file reaches its limit it is moved to `events.jsonl.1`, so both together take about twice the
//! limit, and events that are older than that are gone. Within a run, a number that is missing in `seq` is an event that the
//! disk did not take, or not in time, which is also a warning in the log. A file that somebody moved away is not written any
//! more; [`LogReopener`] gives it up at once.

mod component;
mod file;
mod replay;
mod runs;

pub use component::{EventLog, LogReopener};
pub use replay::{ReplayError, replay};
pub use runs::{KeptRun, RunsError, kept_run};
