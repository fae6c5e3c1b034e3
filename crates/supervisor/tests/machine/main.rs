//! The supervisor's machine: one server in a simulated world, and a fleet whose launches are reported by hand.

#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod fleet;
mod support;
mod world;
