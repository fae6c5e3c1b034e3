//! Tools for tests of components: a test bus, builders of values, and the compliance suite that every component passes.

#![expect(clippy::panic, reason = "this crate runs in tests only, where a panic is how a test fails")]

mod builders;
pub mod compliance;
mod recorded;
mod test_bus;

pub use builders::{card, configuration, fleet, server, spec};
pub use recorded::RecordedLog;
pub use test_bus::{PATIENCE, RunningComponent, TestBus, next_command};
