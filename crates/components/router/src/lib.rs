//! One address for all models: the model's name in a request decides which server gets it.
//!
//! The router owns requests: who waits, what is in flight, whether the way to a server is open. It never decides what runs: it tells
//! the supervisor for which servers requests wait (`WantServer`), and closes the way to one when the supervisor asks (`ReleaseServer`).
//!
//! * `component`: the shell on the bus, on a thread of its own; `listener`: where it listens.
//! * `service`: one request from its head to its answer; `caller`: who asks: the checks of host, origin and key.
//! * `request`: what a request is, and the service that answers it; `reading`: what it says, and the server that it names.
//! * `admitting`: its turn at the gate of its server; `relaying`: sent to a launch, again where it is lost, and the answer back.
//! * `early`: the head and comments of a stream whose request waits; `expect`: how long it is expected to.
//! * `relay`: the bytes to a llama-server and back.
//! * `answers`, `refusals`: errors in the dialect of the path, and those that tell why a server takes no request.
//! * `listing`, `models`, `managing`: the paths that the router answers itself; servers as models, in the shapes of llama-server's own
//!   router; loading and unloading them.
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
mod reading;
mod refusals;
mod relay;
mod relaying;
mod request;
mod service;
mod shared;
mod streams;

pub use component::{Router, RouterFailed};
pub use listener::{RouterListener, RouterUnavailable};
pub use shared::RouterClients;
