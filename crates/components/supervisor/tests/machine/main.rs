//! The supervisor's machine: one server whose launches are simulated, a fleet whose launches are reported by hand, and one
//! on a machine whose memory is short.

#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod fixtures;
mod fleet;
mod memory;
mod memory_simulation;
mod single_server;
