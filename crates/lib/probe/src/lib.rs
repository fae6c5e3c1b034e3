//! Asking a llama-server over HTTP, bounded in time and size.
//!
//! A plain library: it knows where a server listens and what it answers, and neither events nor what an answer means.
//! Each question has a connection of its own, so that no asker shares fate with another one or with an earlier answer.

mod ask;
mod target;

pub use ask::{AskError, ProbeAnswer, Question, Reply, ask, connect, probe};
pub use target::{Key, ProbeAddress, Target, model_names};
