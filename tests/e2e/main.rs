//! End-to-end tests: the real daemon with a real llama-server and a real Prometheus. `cargo xtask test` provides both.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod clients;
mod dashboard;
mod demo;
mod discovery;
mod dist;
mod docs;
mod eras;
mod failures;
mod fleet;
mod kept_cache;
mod kubernetes;
mod monitoring;
mod outliving;
mod packaging;
mod prometheus;
mod readiness;
mod requests;
mod router;
mod router_facts;
mod scripts;
mod stopping;
