//! Checks that a ready server is still alive and making progress.
//!
//! Every ready server is checked once per interval: `GET /health` over a connection of its own, within a timeout. An answer
//! alone proves little, and neither does silence:
//!
//! * **A server that does not answer may be computing.** A long batch keeps builds of 2024 from answering `/health` for a
//!   second and longer. As long as the processor time of its processes grows, silence is no failure. Reading
//!   it wakes no sleeping server, and a server that hangs cannot fake it.
//! * **A server that answers may be wedged.** With `[health] inference`, a request for one token goes through the whole
//!   server. None is sent while the server computes, since real requests get through then, nor while it sleeps: `/health` and
//!   `/props` wake no server, any other path may.
//! * **A server that answers 503 is alive.** It loses its readiness, but it does not fail.
//!
//! As many failed checks in a row as `failures` says publish [`ReadyLost`](llama_warden_events::Event::ReadyLost). One more,
//! of a server that neither answers nor computes, publishes
//! [`ServerFailed`](llama_warden_events::Event::ServerFailed) with the reason `unresponsive` or `wedged`. The supervisor
//! decides about a restart.
//!
//! [`HealthMachine`] is public for the model tests of the lifecycle.

mod check;
mod component;
mod cpu;
mod llama_json;
mod machine;

pub use check::{CheckOutcome, CheckReport, CheckRequest, Inference};
pub use component::Health;
pub use cpu::CpuReading;
pub use machine::{HealthMachine, HealthState};
