//! Desired state: what runs, what stops, in which order.
//!
//! The supervisor hears what people want and what happened, and asks the launcher and the terminator for the difference.
//! It never knows how anything is done. Servers start and stop side by side; per server, everything is serialised and
//! the last wish wins. Before a launch its memory is weighed against what there is and what others were promised. A failed
//! server is started again as its policy says; a change of profile or configuration is brought about by the difference
//! alone.

mod action;
mod admission;
mod backoff;
mod budget;
mod changes;
mod component;
mod failures;
mod machine;
mod memory_queries;
mod server_state;
mod server_states;
mod shutdown;
mod switch;

pub use action::SupervisorAction;
pub use component::{Supervisor, SupervisorError, SupervisorSettings};
pub use machine::{DesiredServer, RESTARTS_AT_ONCE, SupervisorLimits, SupervisorMachine};
pub use switch::{Change, FleetSource, Resolved};
