//! Events as log lines, and as OpenTelemetry spans, metrics and log records.
//!
//! * [`start_logging`] sets up the log: lines on standard error, or entries of the journal where that is the journal. Neither blocks
//!   the daemon, even if nobody reads.
//! * [`Telemetry`] is the component that turns each event into one log line and, with a collector, into spans, metrics and log records.
//! * [`Exports`] is the connection to the collector. It outlives the components, so that the spans of the last stops
//!   are sent too; without an endpoint in the environment nothing of it exists.
//! * [`sentence()`] is what the log says about an event, for whoever shows events elsewhere.
//! * [`EventLog`] is the component that keeps every event as a line of JSON; [`kept_run`] reads those of one run, and [`replay`]
//!   folds the events of the last one.

mod component;
mod eventlog;
mod journal;
mod line;
mod logging;
mod otel;
mod queue;
#[cfg(test)]
mod recorded;
mod sentence;

pub use component::Telemetry;
pub use eventlog::{EventLog, KeptRun, LogReopener, ReplayError, RunsError, kept_run, replay};
pub use logging::{Colour, LogError, LogFormat, LogGuard, LoggingSettings, start_logging, start_logging_to};
pub use otel::{ExportError, ExportRecorder, ExportSettings, ExportSource, Exported, Exports, VariableProblem};
pub use sentence::{Sentence, sentence};
