//! One launch of a server, as requests reach it: its address, its key, and its connections, kept between two requests.
//!
//! llama-server closes a connection after 5 s without a request, so none is used that comes near; and after some requests: 5 on builds of
//! 2024, 100 later. The last of these answers says so, and a connection without it is closed at 100. The one that was used last is used
//! first. A later launch has a pool of its own.
//!
//! Builds of 2025 and before answer with a fixed number of threads, two more than slots, and every open connection takes one. With one more
//! than slots, the last thread is left for health; what is open beyond that is closed with its answer.

mod headers;
mod upstream;

pub use upstream::{PooledLink, Upstream};
