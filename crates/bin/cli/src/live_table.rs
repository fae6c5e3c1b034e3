//! A table that follows the daemon: a table that is drawn again on a terminal, one plain line per change elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use llama_warden_events::ServerId;
use llama_warden_state::{ServerReport, StatusReport};

use crate::table;

/// What was drawn last.
#[derive(Debug)]
pub struct LiveTable {
    surface: Surface,
}

#[derive(Debug)]
enum Surface {
    Terminal { lines: usize },
    Plain { shown: BTreeMap<ServerId, String> },
}

impl LiveTable {
    /// A table on standard output.
    pub fn new() -> Self {
        let surface = if std::io::stdout().is_terminal() {
            Surface::Terminal { lines: 0 }
        } else {
            Surface::Plain { shown: BTreeMap::new() }
        };
        Self { surface }
    }

    /// Whether it shows time passing, and so wants to be drawn again without a change.
    pub const fn shows_time(&self) -> bool {
        matches!(self.surface, Surface::Terminal { .. })
    }

    /// Shows a report. What cannot be written is left out: a table is no data.
    pub fn show(&mut self, report: &StatusReport) {
        let mut out = anstream::AutoStream::auto(std::io::stdout());
        match &mut self.surface {
            Surface::Terminal { lines } => {
                let text = table::status(report);
                if *lines > 0 {
                    let _ = write!(out, "\x1b[{lines}A\x1b[J");
                }
                let _ = writeln!(out, "{}", table::colour_phases(&text));
                *lines = text.lines().count();
            }
            Surface::Plain { shown } => {
                for server in &report.servers {
                    let line = table::server_line(server);
                    if shown.get(&server.model_id) != Some(&line) {
                        let _ = writeln!(out, "{line}");
                        shown.insert(server.model_id.clone(), line);
                    }
                }
            }
        }
        let _ = out.flush();
    }
}

/// Keeps only the servers that are meant; all if none is named.
pub fn keep_named(mut report: StatusReport, ids: &[ServerId]) -> StatusReport {
    if !ids.is_empty() {
        report.servers.retain(|server: &ServerReport| ids.contains(&server.model_id));
    }
    report
}
