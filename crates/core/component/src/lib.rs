//! What a component is built with: the trait, its ports to the bus, and the host that runs it.

mod component;
mod host;

pub use component::{Component, Ports};
pub use host::{Host, HostError, HostSettings, RunningHost};
