//! The supervisor's machine: one server in a simulated world, and a fleet whose launches are reported by hand.

mod fleet;
mod support;
mod world;
