//! The JSON of the HTTP API: reports made from a snapshot, answers to commands, stream records, and problems.

mod problem;
mod report;
mod wire;

pub use problem::{ApiProblem, PROBLEM_JSON};
pub use report::{FailureReport, HealthReport, ServerDetail, ServerReport, StatusReport, WarningReport};
pub use wire::{
    ActiveProfileReport, CommandAnswer, EventRecord, GapReport, LogRecord, ProfileReport, ShutdownAnswer, SwitchAnswer,
    TargetGroup,
};
