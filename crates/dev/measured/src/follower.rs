//! Reads the events of a daemon while they happen, through `llama-warden events --follow`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use llama_warden_test_parts::error::{Error, OnPath};
use serde_json::Value;

use crate::daemon::{MeasuredDaemon, WAIT_LIMIT};
use crate::events;

/// How many events may wait to be read. With more, the thread stops reading, the pipe fills and `llama-warden events` waits;
/// no event is lost.
const WAITING: usize = 1024;

/// A running `llama-warden events --follow`. Dropping it kills the process.
#[derive(Debug)]
pub struct EventFollower {
    child: Child,
    events: Receiver<Value>,
}

impl EventFollower {
    /// Starts to follow at the oldest event that the daemon keeps.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn begin(daemon: &MeasuredDaemon) -> Result<Self, Error> {
        let mut command = daemon.command(&["events", "--follow", "--json"]);
        let program = std::path::PathBuf::from(command.get_program());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().on("start", &program)?;
        let (sender, events) = sync_channel(WAITING);
        if let Some(pipe) = child.stdout.take() {
            // The thread ends when the child closes the pipe, or when the receiver is dropped.
            thread::spawn(move || {
                let lines = BufReader::new(pipe).lines().map_while(Result::ok);
                let events = lines.map_while(|line| serde_json::from_str(&line).ok());
                events.map_while(|event| sender.send(event).ok()).for_each(drop);
            });
        }
        Ok(Self { child, events })
    }

    /// Returns the unread events up to and including the first of type `kind`.
    ///
    /// # Errors
    /// When there is no such event within [`WAIT_LIMIT`] of the one before.
    pub fn until(&self, kind: &str) -> Result<Vec<Value>, Error> {
        let mut passed = Vec::new();
        loop {
            let event = self.events.recv_timeout(WAIT_LIMIT).map_err(|error| {
                let last = passed.last().map_or_else(|| "nothing".to_owned(), Value::to_string);
                Error::missing(
                    format!("there was no {kind} ({error}) after {last}"),
                    "see what the daemon does instead",
                )
            })?;
            let is_last = events::is(&event, kind);
            passed.push(event);
            if is_last {
                return Ok(passed);
            }
        }
    }
}

impl Drop for EventFollower {
    fn drop(&mut self) {
        // The process may have ended with its daemon; then both calls do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
