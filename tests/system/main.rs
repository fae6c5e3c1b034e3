//! System tests: the real daemon, the stand-in, real time. Each test is named by its promise; the rows of the fault matrix
//! that it plays stand in its comment.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod command_line;
mod control;
mod crash_moments;
mod daemon_death;
mod descendants;
mod detectors;
mod dialects;
mod exit_status;
mod followers;
mod harness;
mod hooks;
mod http_security;
mod identity;
mod inheritance;
mod launching;
mod memory;
mod models;
mod output;
mod profiles;
mod readiness;
mod reload;
mod resource_exhaustion;
mod restarts;
mod secrets;
mod side_by_side;
mod signals;
mod state_directory;
mod stopping;
mod unkillable;
mod user_mistakes;
