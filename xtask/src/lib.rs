//! Shared by chores, tests and benchmarks: the paths of the checkout, programs of others, and the real llama-server and
//! Prometheus that they need.
//!
//! The chores themselves are the binary beside this library.

pub mod browser;
mod build_log;
pub mod cargo;
mod debian;
pub mod error;
pub mod llama_server;
mod parts;
pub mod paths;
pub mod prometheus;
pub mod python;
mod sdist;
pub mod shell;
pub mod systemd;
pub mod validators;
