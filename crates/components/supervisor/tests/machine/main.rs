//! The supervisor's machine: one server with a simulated launcher and terminator, several servers whose events the test
//! publishes, and several servers that compete for memory.

#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod fixtures;
mod fleet;
mod memory;
mod memory_simulation;
mod single_server;
