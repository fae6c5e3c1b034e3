//! Sends one HTTP request to a llama-server, bounded in time and size.
//!
//! The crate knows how to address a server and how to read an answer; it publishes no events, and callers interpret the
//! answer. Each request has a connection of its own, so a stuck answer never delays another request.

mod ask;
mod exchange;
mod reply;
mod target;

pub use ask::{ProbeAnswer, Question, ask, connect, probe};
pub use reply::{AskError, Reply};
pub use target::{ProbeAddress, Target, model_names};
