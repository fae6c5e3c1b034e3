//! The escalation ladder of a stop: one signal after the other until the process is gone.
//!
//! The terminator decides and the launcher delivers. A stop climbs the server's ladder, each signal with its equal share
//! of the grace and each at most once, since a second TERM or INT makes a llama-server deadlock or abort. KILL comes when
//! the grace is over. A repeated request joins the stop under way and can only make it shorter.
//!
//! A server that was ready and has a `pre-stop` command gets its first signal when that has ended. The hooks component runs
//! it; its time is part of the grace, and a stop goes on without it where it fails, hangs or cannot be run.

mod component;
mod machine;

pub use component::{Terminator, TerminatorError};
pub use machine::{KILL_VERIFICATION, StopAction, StopMachine, StopPlan};
