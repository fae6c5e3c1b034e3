//! The composition of llama-warden, and its command line.
//!
//! * [`Program`] is all of it, for a `main` of one line, with what others compile in.
//! * [`cli`] reads the command line and talks to people.
//! * [`daemon`] is `up`: it takes the state directory and the addresses, composes, runs, and ends with an exit code.
//! * `compose` is the list of components.
//! * `documents` is what the program says about itself, which is generated beforehand.
//! * `models` makes servers of the models that discovery finds.
//!
//! Everything that decides or acts lives in the crates of the components.

pub mod cli;
mod compose;
pub mod daemon;
pub mod demo;
mod documents;
pub mod exit;
mod load;
mod models;
mod program;
mod source;
mod table;

pub use program::{Matchers, Program};

/// What a compiled plug-in needs: the trait, and the types in it.
pub mod plugin {
    pub use llama_warden_config::ServerSpec;
    pub use llama_warden_detectors::{Matcher, Verdict};
    pub use llama_warden_events::{FailureReason, StreamName};
}
