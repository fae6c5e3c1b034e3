//! The escalation ladder of a stop: one signal after the other until the process is gone.
//!
//! The terminator decides when a signal is due, and the launcher delivers it. Each signal of the server's ladder gets an equal
//! share of the grace and is sent at most once, since a second TERM or INT makes a llama-server deadlock or abort. KILL is
//! sent when the grace is over. A repeated request joins the stop under way and can only shorten it.
//!
//! A server that was ready and has a `pre-stop` command gets its first signal once that has ended. The hooks component runs
//! the command; its time is part of the grace. A command that fails, hangs or cannot be run does not hold up the stop.

mod component;
mod machine;
mod stops;

pub use component::Terminator;
pub use machine::{KILL_VERIFICATION, StopAction, StopMachine, StopPlan};
pub use stops::{TerminatorAction, TerminatorMachine};
