//! The event log: every event of this run of the daemon as a line of JSON.
//!
//! `events.jsonl` in the state directory holds the events of one run only: a new run first moves the file of the run
//! before to `events.jsonl.1`. When the file reaches its limit it is moved there too, so both together take about
//! twice the limit, and events that are older than that are gone. A number that is missing in `seq` is an event that the
//! disk did not take, or not in time, which is also a warning in the log.

mod component;
mod file;
mod replay;

pub use component::{EventLog, EventLogError};
pub use replay::{ReplayError, replay};
