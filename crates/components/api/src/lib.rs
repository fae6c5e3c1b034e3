//! Status and control over HTTP, on a TCP address and on a unix socket.
//!
//! The crate knows events, snapshots and commands; who performs a command, it does not know. Every answer is made from
//! one snapshot. [`Listeners`] are bound before anything is launched; [`Api`] is the component that serves them.
//!
//! * `routes` is one table: the router and the paths of [`openapi_document`] are made from it, so they cannot differ.
//! * `http_security` decides which requests come in at all: host, origin, token, content type, size. It is pure.
//! * `serve` is the loop around hyper: limits, timeouts, the orderly end.

mod command;
mod component;
mod endpoints;
mod http_security;
mod listen;
mod openapi;
mod problem;
mod query;
mod routes;
mod serve;
mod stream;

pub use component::{Api, ApiError, ApiParts, MetricsSource, ModelsSource};
pub use http_security::{InvalidToken, Token};
pub use listen::{BindError, ListenSettings, Listeners};
pub use openapi::document as openapi_document;
