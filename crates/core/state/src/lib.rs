//! The total fold from events to the snapshot.
//!
//! [`Snapshot::apply`] accepts any envelope in any state and cannot fail: a stale or impossible event changes only the count of
//! anomalies. Status pages, metrics, the command line and the tests read nothing but the snapshot, and a replayed event log
//! produces the same one.

mod fold;
mod histogram;
mod phase;
mod record;
mod snapshot;
mod tally;

pub use histogram::Histogram;
pub use phase::{Phase, PhaseName};
pub use record::{
    Counters, FailureRecord, HealthRecord, PhaseChange, ProcessRecord, ReadyRecord, ServerRecord, SlotsRecord,
    SlotsState, StopRecord, UseRecord, WarningRecord,
};
pub use snapshot::{DaemonPhase, DaemonRecord, ExtensionCounts, GuardianRecord, Snapshot};
pub use tally::Tally;
