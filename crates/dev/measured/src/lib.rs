//! Runs the programs that benchmarks measure, and observes them from outside.

pub mod collector;
pub mod daemon;
pub mod events;
pub mod fleet;
pub mod follower;
pub mod killer;
pub mod load;
pub mod nginx;
pub mod poller;
pub mod ports;
pub mod procfs;
pub mod programs;
