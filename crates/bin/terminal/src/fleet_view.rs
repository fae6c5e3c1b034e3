//! Shows the servers of a daemon that runs in this process, for `up` and `demo`: a live table, with the log above it.
//!
//! It has a thread of its own: a terminal that is stopped by Ctrl-S blocks who writes to it, and must not block the daemon.

use std::io::{self, Write as _};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use llama_warden_api_types::StatusReport;
use llama_warden_bus::Bus;
use llama_warden_daemon::build_runtime;
use llama_warden_state::DaemonPhase;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::oneshot;

use crate::daemon_log::LogPipe;
use crate::live_table::{LiveTable, Place};

/// How long the end waits for the last frame: a stopped terminal takes none.
const LAST_FRAME: Duration = Duration::from_secs(1);

/// How long the last frame waits for the last lines of the log, whose writer ends at the same time.
const LAST_LINES: Duration = Duration::from_millis(200);

/// How servers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FleetViewKind {
    /// A table that is live on a terminal, a line for each change elsewhere.
    Table,
    /// A line of JSON for each change.
    Json,
}

/// The servers of a daemon on standard output, until it is finished.
pub struct FleetView {
    end: oneshot::Sender<()>,
    shown: mpsc::Receiver<()>,
    broken: oneshot::Receiver<io::Error>,
}

impl FleetView {
    /// Shows every change from now on, and the lines of the log above the table.
    ///
    /// # Errors
    /// The kernel gives no thread.
    pub fn start(kind: FleetViewKind, bus: Bus, log: Option<LogPipe>) -> io::Result<Self> {
        let ((end, mut ended), (has_shown, shown), (is_broken, broken)) =
            (oneshot::channel(), mpsc::channel(), oneshot::channel());
        let show = async move {
            let log = log.and_then(|pipe| Receiver::from_owned_fd(pipe.into()).ok());
            let table = (kind == FleetViewKind::Table).then(|| LiveTable::new(Place::Inline));
            let mut drawing = Drawing { bus, table, log: log.map(|pipe| BufReader::new(pipe).lines()) };
            tokio::select! {
                error = drawing.follow() => {
                    // Nobody asks where that is no reason to end.
                    let _ = is_broken.send(error);
                    let _ = ended.await;
                }
                _ = &mut ended => {}
            }
            drawing.finish().await;
        };
        thread::Builder::new().name("fleet-view".to_owned()).spawn(move || {
            if let Ok(runtime) = build_runtime() {
                runtime.block_on(show);
            }
            // Fails if the end has not waited for it.
            let _ = has_shown.send(());
        })?;
        Ok(Self { end, shown, broken })
    }

    /// Waits until standard output takes no more; for ever if it always does. Safe to cancel.
    pub async fn is_broken(&mut self) -> io::Error {
        match (&mut self.broken).await {
            Ok(error) => error,
            Err(_) => std::future::pending().await,
        }
    }

    /// Shows how everything ended.
    pub fn finish(self) {
        // Fails if the thread has ended, which nothing waits for then.
        let _ = self.end.send(());
        let _ = self.shown.recv_timeout(LAST_FRAME);
    }
}

/// What the thread draws.
struct Drawing {
    bus: Bus,
    /// Without one, every change is a line of JSON.
    table: Option<LiveTable>,
    log: Option<Lines<BufReader<Receiver>>>,
}

impl Drawing {
    /// Shows every change of the snapshot, until standard output takes no more.
    async fn follow(&mut self) -> io::Error {
        let mut snapshots = self.bus.watch();
        loop {
            if snapshots.borrow_and_update().daemon.phase == DaemonPhase::Stopping {
                self.table
                    .iter_mut()
                    .for_each(|table| table.notice = Some("stopping; Ctrl-C again kills what is left"));
            }
            if let Err(error) = self.show() {
                return error;
            }
            tokio::select! {
                Ok(()) = snapshots.changed() => if let Some(table) = &self.table { table.pause().await },
                Some(line) = next_line(&mut self.log) => if let Err(error) = self.print_above(&line) {
                    return error;
                },
                () = expired(&mut self.table) => {}
            }
        }
    }

    /// Shows the last lines, and how everything ended.
    async fn finish(&mut self) {
        let lines = async {
            while let Some(line) = next_line(&mut self.log).await {
                let _ = self.table.iter_mut().try_for_each(|table| table.print_above(&line));
            }
        };
        // A writer that is left has nothing to say any more.
        let _ = tokio::time::timeout(LAST_LINES, lines).await;
        self.table.iter_mut().for_each(|table| table.notice = None);
        // A reader that is gone misses it.
        let _ = self.show();
    }

    fn show(&mut self) -> io::Result<()> {
        let report = StatusReport::of(&self.bus.snapshot(), self.bus.clock().now());
        match &mut self.table {
            Some(table) => table.show(&report),
            None => writeln!(io::stdout(), "{}", serde_json::to_string(&report)?),
        }
    }

    fn print_above(&mut self, line: &str) -> io::Result<()> {
        self.table.iter_mut().try_for_each(|table| table.print_above(line))
    }
}

/// The next line of the log; `None` at its end, or if there is none. Safe to cancel.
async fn next_line(log: &mut Option<Lines<BufReader<Receiver>>>) -> Option<String> {
    match log {
        Some(lines) => lines.next_line().await.ok().flatten(),
        None => None,
    }
}

/// Waits until the table has to be drawn without a change.
async fn expired(table: &mut Option<LiveTable>) {
    match table {
        Some(table) => table.expired().await,
        None => std::future::pending().await,
    }
}
