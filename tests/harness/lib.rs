//! Stages real daemons with real processes, and looks at what they leave behind.
//!
//! # How a test is written
//! [`sandbox()`] gives the test a [`Sandbox`]: a temporary directory, free ports, and the programs. On it the test writes a
//! [`TestFleet`] (a configuration of stand-ins or real servers), starts a [`TestDaemon`], and awaits events: every daemon is followed
//! through `/api/v1/events` from its first event on, and [`TestDaemon::event`] looks at what came and waits for what comes. There is no
//! sleep; every wait has a deadline of [`WAIT_LIMIT`], which is for what must come, on a machine that does much else.
//!
//! # What holds after every test, passed or failed
//! The sandbox stops each daemon that still runs and asserts that
//! * the events replay to what `/api/v1/status` said,
//! * no zombie is a child of the daemon, which ends with exit code 0,
//! * whoever followed the events got all of them, to the end of the daemon and a clean end of the stream,
//! * so did the event log,
//! * the lock of the state directory is free and the control socket is gone,
//! * no process is left anywhere that carries the sandbox: every process of a sandbox has its directory in the environment or
//!   in the command line.
//!
//! When a test fails its events and the log of its daemons are printed.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod daemon;
mod event_stream;
mod external_programs;
mod fleet;
mod http;
mod options;
mod port;
mod postconditions;
mod procfs;
mod program;
mod sandbox;
mod scrape;

use std::time::Duration;

use llama_warden_stand_in::{ScheduledAction, ScriptAction, ScriptPhase};

pub use daemon::TestDaemon;
pub use event_stream::EventStream;
pub use external_programs::{ExternalProgram, external_program, is_root};
pub use fleet::TestFleet;
pub use http::{Endpoint, TestRequest, TestResponse};
pub use options::{DaemonOptions, DaemonOutput};
pub use port::Port;
pub use postconditions::Violations;
pub use procfs::{ProcessInfo, descendants, open_files, processes_with, resident_bytes};
pub use program::{ProgramRun, daemon_program, executable, stand_in_program};
pub use sandbox::{Sandbox, sandbox};
pub use scrape::sample;

/// A action at a moment of a stand-in's life.
pub const fn action_at(at: ScriptPhase, action: ScriptAction) -> ScheduledAction {
    ScheduledAction { at, after_ms: 0, action }
}

/// A action that comes when the daemon has long seen the server ready, also on a machine that does much else.
pub const fn after_ready(action: ScriptAction) -> ScheduledAction {
    ScheduledAction { at: ScriptPhase::Ready, after_ms: 3000, action }
}

/// Longest time for something that must come.
pub const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Waits until `condition` holds, for what sends no event: the kernel's tables, and a socket that is not there yet.
///
/// # Panics
/// With `what` when it does not within `limit`.
pub async fn eventually(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + limit;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not within {limit:?}: {what}");
        // await: the kernel tells nobody about its tables.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
