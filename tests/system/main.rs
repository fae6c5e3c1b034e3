//! System tests: the real daemon, the stand-in, real time. Each test is named by its promise; the rows of the fault matrix
//! that it plays stand in its comment.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod command_line;
mod control;
mod crash_moments;
mod daemon_death;
mod detectors;
mod dialects;
mod edge;
mod endings;
mod families;
mod followers;
mod hands_on;
mod harness;
mod hooks;
mod identity;
mod inheritance;
mod launching;
mod memory;
mod models;
mod output;
mod profiles;
mod readiness;
mod reload;
mod restarts;
mod secrets;
mod shortage;
mod side_by_side;
mod signals;
mod state_directory;
mod stopping;
mod unkillable;
