//! The restart policy: whether a failed server is launched again, and after which delay.
//!
//! Pure: failures and the time go in, and a [`Decision`] comes out.

mod policy;

pub use policy::{Backoff, Decision, FaultyFile};
