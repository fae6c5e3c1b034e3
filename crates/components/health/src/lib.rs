//! Is a ready server still alive and making progress?
//!
//! Every ready server is looked at once per interval: `GET /health` over a connection of its own, within a time limit.
//! What that proves, and what not:
//!
//! * **A server that does not answer may compute.** A long batch keeps builds of 2024 from answering `/health` for a
//!   second and longer. So the processor time of its process group is read, which nothing can fake and which wakes
//!   nobody: as long as it grows, silence is no failure.
//! * **A server that answers may be wedged.** Where `[health] inference` asks for it, a request for one token goes
//!   through the whole of the server. It is left out while the server computes, which is what real traffic looks like from
//!   outside, and while it sleeps: `/health` and `/props` wake nobody, any other path may.
//! * **A server that says 503 is alive.** It is not ready, and nothing more follows.
//!
//! `failures` in a row make a [`ReadyLost`](llama_warden_events::Event::ReadyLost); one more of a server that neither
//! answers nor computes makes a [`ServerFailed`](llama_warden_events::Event::ServerFailed), `unresponsive` or `wedged`.
//! What becomes of it then is for others to decide.

mod check;
mod component;
mod cpu;
mod llama_json;
mod machine;

pub use component::{Health, HealthError};
