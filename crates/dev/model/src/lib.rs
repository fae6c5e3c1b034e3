//! The lifecycle of servers as a simulation: the machines of supervisor, terminator, readiness and health on a simulated bus, with
//! simulated servers and a simulated clock. No process, no task, no time of the machine that runs it.
//!
//! A run is a list of [`SimulationStep`]s. Between any two steps, every component may be behind by any number of events, any task may be
//! done or not, and the clock may have jumped. [`Simulation::run`] does the steps, then lets everything come to rest, then shuts
//! down, and returns the first promise that was broken ([`BrokenPromise`]).
//!
//! What the components around the machines do, the simulation does in their place (`simulation/parts`), as closely as it can: it sends, it
//! publishes, it asks. The launcher has no machine; it is played, with processes that misbehave.

#![expect(clippy::panic, reason = "this crate runs in tests only, where a panic is how a test fails")]

mod bus;
pub mod configuration;
mod promises;
mod simulation;
mod step;
mod violation;
mod world;

pub use bus::{SentCommand, SimulatedBus, SimulatedInbox, SimulatedIncoming};
pub use promises::Promises;
pub use simulation::{Broken, Simulation, SimulationSettings};
pub use step::{Act, Outside, Part, Preparation, SimulationStep, StopHaste, Traffic, UserCommand};
pub use violation::BrokenPromise;
pub use world::{Manner, SimulatedProcess, World};

/// How many servers there are.
pub const SERVERS: usize = 3;
