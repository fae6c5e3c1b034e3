//! Desired state: what runs, what stops, in which order.
//!
//! The supervisor hears what people want and what happened, and asks the launcher and the terminator for the difference.
//! It never knows how anything is done. All servers start and stop side by side; per server, everything is serialised
//! and the last wish wins.

mod component;
mod machine;
mod slot;

pub use component::{Supervisor, SupervisorError, SupervisorSettings};
pub use machine::{Action, Machine};
