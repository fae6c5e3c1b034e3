//! Desired state: what runs, what stops, in which order.
//!
//! The supervisor hears what people want and what happened, and asks the launcher and the terminator for the difference.
//! It never knows how anything is done. Servers start and stop side by side; per server, everything is serialised and
//! the last wish wins. A failed server is started again as its policy says; a change of profile or configuration is
//! brought about by the difference alone.

mod backoff;
mod component;
mod machine;
mod memory;
mod shutdown;
mod slot;
mod switch;

pub use component::{Supervisor, SupervisorError, SupervisorSettings};
pub use machine::{Action, Limits, Machine, Member, RESTARTS_AT_ONCE};
pub use switch::{Change, FleetSource, Resolved};
