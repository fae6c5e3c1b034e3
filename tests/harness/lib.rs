//! The harness of the system and end-to-end tests: runs real daemons in a sandbox and checks what they leave behind.
//!
//! # How to write a test
//! [`sandbox()`] calls the test with a [`Sandbox`]: a temporary directory that is HOME of everything that runs in it. The
//! test builds a [`TestFleet`] (a configuration of stand-ins or real servers), starts a [`TestDaemon`], and waits for
//! events. The harness follows `/api/v1/events` of every daemon from the first event on, so that [`TestDaemon::event`] also
//! finds an event that came before the call. Tests do not sleep; every wait ends after [`WAIT_LIMIT`].
//!
//! # What must hold after every test, passed or failed
//! The sandbox stops each daemon that still runs, and asserts that
//! * the events replay to the state that `/api/v1/status` reported,
//! * the daemon has no zombie child, and exits with 0 after TERM,
//! * the follower of the events got all of them, up to a clean end of the stream after `DaemonStopped`,
//! * the event log holds the same events,
//! * the lock of the state directory is free, and the control socket is removed,
//! * no process is left that has the sandbox's directory in its environment or its command line, as every process of a
//!   sandbox has.
//!
//! A test that fails prints the events and the log of its daemons.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod daemon;
mod event_stream;
mod external_programs;
mod fleet;
mod http;
mod measure;
mod options;
mod port;
mod postconditions;
mod procfs;
mod program;
mod raw;
mod routed;
mod sandbox;
mod scrape;
mod terminal_screen;

use std::time::Duration;

use llama_warden_stand_in::{ScheduledAction, ScriptAction, ScriptPhase};

pub use daemon::TestDaemon;
pub use event_stream::EventStream;
pub use external_programs::{ExternalProgram, external_program, is_root, shell_on_path};
pub use fleet::TestFleet;
pub use http::{Endpoint, RequestFailure, TestRequest, TestResponse};
pub use measure::measured;
pub use options::{DaemonOptions, DaemonOutput, own_namespaces};
pub use port::Port;
pub use procfs::{
    ProcessInfo, descendants, ignores, kill_with_guardian_and_shims, open_files, processes_with, programs_of,
    resident_bytes,
};
pub use program::{ProgramRun, TestTerminal, daemon_program, executable, stand_in_program};
pub use raw::{connect, error_word, exchange_bytes, parsed_answer, post_bytes, post_head, read_answer};
pub use routed::RoutedDaemon;
pub use sandbox::{Sandbox, sandbox, sandbox_within};
pub use scrape::sample;
pub use terminal_screen::TerminalScreen;

/// Schedules an action of a stand-in at the beginning of a phase.
pub const fn action_at(at: ScriptPhase, action: ScriptAction) -> ScheduledAction {
    ScheduledAction { at, after_ms: 0, action }
}

/// Schedules an action three seconds after a stand-in became ready, when the daemon has seen that even on a busy machine.
pub const fn after_ready(action: ScriptAction) -> ScheduledAction {
    ScheduledAction { at: ScriptPhase::Ready, after_ms: 3000, action }
}

/// Limit of every wait for something that must happen; generous, because machines that run tests are busy.
pub const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// Polls `condition` every 10 ms until it is true. For conditions that no event announces, such as the state of `/proc`.
///
/// # Panics
/// With `what`, if it is not true within `limit`.
pub async fn eventually(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + limit;
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "not within {limit:?}: {what}");
        // await: the kernel sends no event when `/proc` changes.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
