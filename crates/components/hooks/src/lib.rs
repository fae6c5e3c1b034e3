//! The user's commands around a server's life.
//!
//! `post-ready` runs once for each launch that becomes ready, `post-exit` once for each process that ended; the events call
//! for them and nothing waits for them. `pre-start` and `pre-stop` run when the launcher and the terminator ask for them,
//! who wait for their `HookCompleted`. They are called off once what they are run for is over: a `pre-start` when its launch
//! is to stop, a `pre-stop` when its process is gone.
//!
//! A command is an argument list without a shell, runs in the daemon's environment with what it needs to know in
//! `LLAMA_WARDEN_*`, ends within its limit or is killed with its process group, and its output goes to the log. Commands of
//! one server run one after the other, in the order of what happened; those of different servers side by side.
//!
//! This crate signals the processes that it made and reaps itself, and no others.

mod call;
mod component;
mod output;
mod process;
mod queue;

pub use component::{Hooks, HooksError};
