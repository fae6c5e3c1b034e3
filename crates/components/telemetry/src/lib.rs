//! Events as log lines, and as OpenTelemetry spans, metrics and log records.
//!
//! * [`start_logging`] sets up the log: lines on standard error, or entries of the journal where that is the journal. Neither blocks
//!   the daemon, even if nobody reads.
//! * [`Telemetry`] is the component that turns each event into one log line and, with a collector, into spans, metrics and log records.
//! * [`Exports`] is the connection to the collector. It outlives the components, so that the spans of the last stops
//!   are sent too; without an endpoint in the environment nothing of it exists.
//! * [`sentence()`] is what the log says about an event, for commands that show events.

mod access;
mod component;
mod journal;
mod line;
mod logging;
mod otel;
mod queue;
mod sentence;

pub use component::Telemetry;
pub use logging::{Colour, LogError, LogFormat, LogGuard, LoggingSettings, start_logging, start_logging_to};
pub use otel::{ExportError, ExportRecorder, ExportSettings, ExportSource, Exported, Exports, VariableProblem};
pub use sentence::{Sentence, sentence};
