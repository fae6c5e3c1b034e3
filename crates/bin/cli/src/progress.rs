//! Shows how the servers of a command fare while it waits: a table on a terminal, elsewhere a line for each change.

use std::collections::BTreeMap;

use llama_warden_api_types::{ServerReport, StatusReport};
use llama_warden_events::{Incarnation, ServerId};
use llama_warden_state::PhaseName;

use crate::args::GlobalArgs;
use crate::live_table::LiveTable;

/// The display of one command. With `--json` it shows nothing.
#[derive(Debug)]
pub struct Progress {
    table: Option<LiveTable>,
    seen: BTreeMap<ServerId, Seen>,
}

/// What of a server makes a new line, if it changes. Times do not: they change all the time.
type Seen = (PhaseName, Incarnation, Option<u32>, u32);

impl Progress {
    pub fn new(global: &GlobalArgs) -> Self {
        Self { table: (!global.json).then(LiveTable::new), seen: BTreeMap::new() }
    }

    /// Shows the state before the command on a terminal. Elsewhere the lines begin with what changes: a `ready` of before
    /// would be read as the outcome.
    pub fn begin(&mut self, report: &StatusReport) {
        match &mut self.table {
            Some(table) if table.shows_time() => table.show(report),
            _ => self.seen = report.servers.iter().map(|server| (server.model_id.clone(), seen(server))).collect(),
        }
    }

    /// Shows a report.
    pub fn show(&mut self, report: &StatusReport) {
        let Some(table) = &mut self.table else { return };
        if table.shows_time() {
            table.show(report);
            return;
        }
        let mut changed = report.clone();
        changed.servers.retain(|server| {
            let now = seen(server);
            self.seen.insert(server.model_id.clone(), now) != Some(now)
        });
        table.show(&changed);
    }
}

fn seen(server: &ServerReport) -> Seen {
    // Whole tenths: a load of an hour prints ten lines.
    let tenths = server.progress.map_or(0, |progress| (progress * 10.0) as u32);
    (server.phase, server.incarnation, server.pid, tenths)
}
