//! One address for all models: the model's name in a request decides which server gets it.
//!
//! The router owns requests: who waits, what is in flight, whether the way to a server is open. It never decides what runs: it tells
//! the supervisor for which servers requests wait (`WantServer`), and closes the way to one when the supervisor asks (`ReleaseServer`).
//!
//! From the bottom up, each using only what stands above it here:
//! * `faults`: errors, in the dialect of the path; `models`: servers as models, in the shapes of llama-server's own router.
//! * `shared`: the gates, the names and the launches, which requests and component share; `expect`: how long a request is expected to
//!   wait; `refusals`: why a server takes none.
//! * `answer`: the head and the body that the client gets.
//! * `caller`: who asks, with the checks of host, origin and key; `request`: what is asked, and the service that answers it.
//! * What the service does, a module each: `reading` what a request says; `admitting` it at the gate of its server; `relaying` it to a
//!   launch, again where it is lost; telling a client that waits something `early`. Without a relay: `listing` and `managing` models;
//!   `asking` servers, for `streams` that a client resumes and for those that are `asleep`.
//! * `service`: one request from its head to its answer, by what its path means.
//! * `component`: the shell on the bus, on a thread of its own; `listener`: where it listens.

mod admitting;
mod answer;
mod asking;
mod asleep;
mod caller;
mod component;
mod early;
mod expect;
mod faults;
mod listener;
mod listing;
mod managing;
mod models;
mod reading;
mod refusals;
mod relaying;
mod request;
mod service;
mod shared;
mod streams;

pub use component::{Router, RouterFailed};
pub use listener::{RouterListener, RouterUnavailable};
pub use shared::RouterClients;
