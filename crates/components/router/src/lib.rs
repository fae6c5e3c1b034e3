//! One address for all models: the model's name in a request decides which server gets it.
//!
//! The router owns requests: who waits, what is in flight, whether the way to a server is open. It never decides what runs: it tells
//! the supervisor for which servers requests wait (`WantServer`), and closes the way to one when the supervisor asks (`ReleaseServer`).
//!
//! * `component`: the shell on the bus, on a thread of its own; `listener`: where it listens.
//! * `caller`: who asks: the checks of host, origin and key.
//! * `service`: one request from its head to its answer.
//! * `early`: the head and comments of a stream whose request waits; `expect`: how long it is expected to.
//! * `relay`: the bytes to a llama-server and back.
//! * `answers`, `listing`: errors in the dialect of the path, and the paths that the router answers itself.
//! * `models`, `managing`: servers as models, in the shapes of llama-server's own router; loading and unloading them.
//! * `asking`: the router's own questions to servers; `streams`, `asleep`: streams that a client resumes, and which servers sleep.

mod admitting;
mod answers;
mod asking;
mod asleep;
mod caller;
mod component;
mod early;
mod expect;
mod listener;
mod listing;
mod managing;
mod models;
mod relay;
mod service;
mod shared;
mod streams;

pub use component::{Router, RouterFailed};
pub use listener::{RouterListener, RouterUnavailable};
pub use shared::RouterClients;
