//! The supervisor's machine: one server with a simulated launcher and terminator, several servers whose events the test
//! publishes, several servers that compete for memory, and servers that requests use.

#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod demand;
mod fixtures;
mod fleet;
mod memory;
mod memory_demand;
mod memory_simulation;
mod routed;
mod single_server;
mod slot_demand;
