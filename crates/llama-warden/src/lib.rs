//! The composition of llama-warden, and its command line.
//!
//! * [`cli`] reads the command line and talks to people.
//! * [`daemon`] is `up`: it takes the state directory and the addresses, composes, runs, and ends with an exit code.
//! * `compose` is the list of components.
//!
//! Everything that decides or acts lives in the crates of the components.

pub mod cli;
mod compose;
pub mod daemon;
pub mod demo;
pub mod exit;
mod load;
mod source;
mod table;
