//! Shared by chores, tests and benchmarks: the paths of the checkout, leases of ports, and the third-party programs that the tests need:
//! a real llama-server of any year, Prometheus, a browser, and those that judge what `config` ships.

pub mod api_clients;
pub mod browser;
mod build_log;
pub mod cargo;
mod debian;
pub mod error;
pub mod llama_server;
mod parts;
pub mod paths;
pub mod ports;
pub mod prometheus;
pub mod proxies;
pub mod python;
mod sdist;
pub mod shell;
pub mod shipped;
pub mod systemd;
pub mod validators;
