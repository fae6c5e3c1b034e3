//! What a component is built with: the trait, its ports to the bus, its loop, the launches it follows, and the host.

mod component;
mod context;
mod host;
mod tracker;
mod worker;

pub use component::{Component, Ports};
pub use context::Context;
pub use host::{CompositionError, Host, HostError, HostSettings, RunningHost};
pub use tracker::{LaunchChange, LaunchReadiness, LaunchTracker, LaunchedProcess, TrackedLaunch, Transition};
pub use worker::{Worker, next_task};
