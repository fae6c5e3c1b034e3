//! The supervisor's machine: one server in a simulated world, a fleet whose launches are reported by hand, and one
//! on a machine whose memory is short.

#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod fleet;
mod host;
mod memory;
mod support;
mod world;
