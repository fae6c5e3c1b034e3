//! The total fold from events to the snapshot.
//!
//! [`Snapshot::apply`] takes any envelope in any state and cannot fail: a stale or impossible event changes nothing but
//! the count of anomalies. The snapshot is all that status pages, metrics, the command line and the tests read, and a
//! replayed event log ends in the same one.

mod fold;
mod histogram;
mod phase;
mod record;
mod snapshot;
mod tally;

pub use histogram::Histogram;
pub use phase::{Phase, PhaseName};
pub use record::{
    Counters, ExitOutcome, FailureRecord, HealthRecord, PhaseChange, ProcessRecord, ReadyRecord, ServerRecord,
    StopRecord, WarningRecord,
};
pub use snapshot::{DaemonPhase, DaemonRecord, Snapshot};
pub use tally::Tally;
