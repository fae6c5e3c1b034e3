//! Follows the events of a daemon as they come.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use serde_json::Value;
use xtask::error::{Error, OnPath};

use crate::daemon::{MeasuredDaemon, WAIT_LIMIT};
use crate::events;

/// Events that wait to be looked at. Where there are more, the pipe fills and `llama-warden events` waits.
const WAITING: usize = 1024;

/// A `llama-warden events --follow` that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct EventFollower {
    child: Child,
    events: Receiver<Value>,
}

impl EventFollower {
    /// Begins to follow, with the oldest event that is kept.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn begin(daemon: &MeasuredDaemon) -> Result<Self, Error> {
        let mut command = daemon.command(&["events", "--follow", "--json"]);
        let program = std::path::PathBuf::from(command.get_program());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().on("start", &program)?;
        let (sender, events) = sync_channel(WAITING);
        if let Some(pipe) = child.stdout.take() {
            // It ends with the pipe, which ends with the child, or when nobody looks any more.
            thread::spawn(move || {
                let lines = BufReader::new(pipe).lines().map_while(Result::ok);
                let events = lines.map_while(|line| serde_json::from_str(&line).ok());
                events.map_while(|event| sender.send(event).ok()).for_each(drop);
            });
        }
        Ok(Self { child, events })
    }

    /// The events that were not looked at yet, up to the first of this kind, which is the last that is returned.
    ///
    /// # Errors
    /// When none comes within [`WAIT_LIMIT`].
    pub fn until(&self, kind: &str) -> Result<Vec<Value>, Error> {
        let mut passed = Vec::new();
        loop {
            let event = self.events.recv_timeout(WAIT_LIMIT).map_err(|error| {
                let last = passed.last().map_or_else(|| "nothing".to_owned(), Value::to_string);
                Error::missing(format!("no {kind} came ({error}) after {last}"), "see what the daemon does instead")
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
        // It may have ended with its daemon.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
