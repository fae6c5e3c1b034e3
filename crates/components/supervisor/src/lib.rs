//! Desired state: what runs, what stops, in which order.
//!
//! The supervisor compares the desired state of each server with the events of its latest launch, and sends the difference
//! to the launcher and the terminator. How they launch and stop a server, it does not know.
//!
//! * Servers start and stop side by side. Per server, everything is serialised and the last request wins.
//! * A launch is admitted only if its estimated memory fits beside what is reserved for other launches.
//! * A failed server is launched again by its restart policy, with a growing, random delay.
//! * A change of profile or configuration stops, restarts and starts only the servers that differ; stops come first.
//!
//! [`SupervisorMachine`] makes all decisions without a clock, a task or a file; [`Supervisor`] connects it to the bus.

mod action;
mod changes;
mod component;
mod file_watches;
mod kept;
mod machine;
mod memory_queries;
mod policy;
mod server_state;
mod settings;
mod shutdown;
mod switch;

pub use action::SupervisorAction;
pub use component::{Supervisor, SupervisorError};
pub use llama_warden_backoff::FaultyFile;
pub use machine::{DaemonEnding, DesiredServer, RESTARTS_AT_ONCE, ServerGoal, SupervisorLimits, SupervisorMachine};
pub use policy::{RoutingPolicy, ServerPolicy};
pub use settings::SupervisorSettings;
pub use switch::{Caution, Change, Difference, FleetActivity, FleetSource, Resolved, SwitchKind, difference};
