//! Shows status reports as they change: a table that is redrawn on a terminal, one line per change elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use llama_warden_api_types::StatusReport;
use llama_warden_events::ServerId;

use crate::table;

/// Remembers what it has shown, so that it shows only changes.
#[derive(Debug)]
pub enum LiveTable {
    /// Number of lines of the table on the terminal.
    Terminal { lines: usize },
    /// The latest line of each server.
    Plain { shown: BTreeMap<ServerId, String> },
}

impl LiveTable {
    /// A table on standard output.
    pub fn new() -> Self {
        match std::io::stdout().is_terminal() {
            true => Self::Terminal { lines: 0 },
            false => Self::Plain { shown: BTreeMap::new() },
        }
    }

    /// Whether it shows uptimes, and so has to be redrawn without a change.
    pub const fn shows_time(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    /// Shows a report. Write errors are ignored: the table is no data, and the command continues without it.
    pub fn show(&mut self, report: &StatusReport) {
        let mut out = anstream::AutoStream::auto(std::io::stdout());
        match self {
            Self::Terminal { lines } => {
                let text = table::status(report);
                if *lines > 0 {
                    // Moves the cursor to the table's first line and clears from there to the end of the screen.
                    let _ = write!(out, "\x1b[{lines}A\x1b[J");
                }
                let _ = writeln!(out, "{}", table::colour_phases(&text));
                *lines = text.lines().count();
            }
            Self::Plain { shown } => {
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
