//! System tests: the real daemon with the stand-in, in real time.
//!
//! The name of a test is its promise. Where a test covers a fault of [the list](../../docs/faults.md), its comment cites
//! the code.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod adoption;
mod canary;
mod chaos;
mod clocks;
mod closed_streams;
mod command_line;
mod completion;
mod configuration_files;
mod control;
mod crash_moments;
mod crossings;
mod daemon_death;
mod dashboard;
mod descendants;
mod detectors;
mod dialects;
mod doctor;
mod exit_status;
mod fail_points;
mod finding_the_daemon;
mod followers;
mod guardian;
mod hand_over;
mod harness;
mod hooks;
mod http_security;
mod identity;
mod import;
mod inference;
mod inheritance;
mod kept_cache;
mod launching;
mod memory;
mod metrics;
mod models;
mod nothing_left;
mod on_demand;
mod options;
mod out_of_memory;
mod output;
mod peers;
mod pipes_in_the_way;
mod process_one;
mod profiles;
mod readiness;
mod reload;
mod resource_exhaustion;
mod restarts;
mod router;
mod router_bad_input;
mod router_bodies;
mod router_faults;
mod router_keys;
mod router_leaving;
mod router_models;
mod router_waiting;
mod secrets;
mod side_by_side;
mod signals;
mod silent_daemon;
mod spoofing;
mod state_directory;
mod stopping;
mod systemd;
mod telemetry;
mod terminal;
mod top;
mod unkillable;
mod user_mistakes;
mod waiting;
mod wrapped;
