//! Status and control over HTTP, on a TCP address and on a unix socket.
//!
//! The crate knows events, snapshots and commands, but not the components that carry commands out. Every answer is made
//! from one snapshot. [`Listeners`] are bound before anything is launched; [`Api`] is the component that serves them. The
//! JSON is in `llama-warden-api-types`, the client in `llama-warden-client`.
//!
//! * `endpoints`: the handlers, each with its `Route`. The router and [`openapi_document`] are made from one list of routes.
//! * `command`: sends a command to its owner and waits for its end.
//! * `stream`: endless bodies, for events and logs.
//! * `http_security`: decides which requests are served, by host, origin, token, user, content type and size.
//! * `router`, `serve`: the router, and what it serves on each listener; the accept loop is in `llama-warden-http-server`.
//!
//! # Adding an endpoint
//!
//! 1. A file in `endpoints` with the handler and, beside it, a constant `Route`: method, operation id, path, summary and
//!    answers. It needs the token unless it says `access: Access::Open`. A query is a struct that derives `Deserialize` and
//!    `JsonSchema`; the handler reads it with `StrictQuery`, and the route names it as `query_schema::<T>`. The doc comments
//!    of its fields describe the parameters.
//! 2. A line in the list in `endpoints/mod.rs`.
//! 3. `cargo xtask schema`, which regenerates `docs/schema/openapi.json`.
//!
//! A component that answers a path of its own, as metrics does, depends on `llama-warden-api-types` alone: it implements
//! `RouteHandler`, and the composition puts its `ExtraRoute` into [`ApiResources::routes`].

mod app;
mod command;
mod component;
mod compression;
mod endpoints;
mod http_security;
mod openapi;
mod problem;
mod query;
mod route;
mod router;
mod serve;
mod stream;

pub use app::ModelsSource;
pub use component::{Api, ApiResources};
pub use http_security::{InvalidToken, Token, TokenInForce};
pub use llama_warden_http_server::{BindError, ControlRebinder, Listeners};
pub use openapi::openapi_document;
pub use router::UnusablePath;
