//! A picture that follows the daemon: a table that is drawn again on a terminal, one plain line per change elsewhere.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

use llama_warden_events::ServerId;
use llama_warden_state::{ServerReport, StatusReport};

use crate::table;

/// What was drawn last.
#[derive(Debug)]
pub struct Picture {
    canvas: Canvas,
}

#[derive(Debug)]
enum Canvas {
    Terminal { lines: usize },
    Plain { shown: BTreeMap<ServerId, String> },
}

impl Picture {
    /// A picture on standard output.
    pub fn new() -> Self {
        let canvas = if std::io::stdout().is_terminal() {
            Canvas::Terminal { lines: 0 }
        } else {
            Canvas::Plain { shown: BTreeMap::new() }
        };
        Self { canvas }
    }

    /// Whether it shows time passing, and so wants to be drawn again without a change.
    pub const fn is_moving(&self) -> bool {
        matches!(self.canvas, Canvas::Terminal { .. })
    }

    /// Shows a report. What cannot be written is left out: a picture is no data.
    pub fn show(&mut self, report: &StatusReport) {
        let mut out = anstream::AutoStream::auto(std::io::stdout());
        match &mut self.canvas {
            Canvas::Terminal { lines } => {
                let text = table::render(report);
                if *lines > 0 {
                    let _ = write!(out, "\x1b[{lines}A\x1b[J");
                }
                let _ = writeln!(out, "{}", table::colour(&text));
                *lines = text.lines().count();
            }
            Canvas::Plain { shown } => {
                for server in &report.servers {
                    let line = table::line(server);
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
pub fn only(mut report: StatusReport, ids: &[ServerId]) -> StatusReport {
    if !ids.is_empty() {
        report.servers.retain(|server: &ServerReport| ids.contains(&server.model_id));
    }
    report
}
