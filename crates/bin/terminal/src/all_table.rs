//! The servers of a daemon and of its peers, as people read them: a table for each machine, below its name.
//!
//! A peer that does not answer takes one line of its own, or a few where there is room.

use jiff::Timestamp;
use llama_warden_api_types::{AllStatusReport, PeerProblemReport, PeerReport};
use llama_warden_support::for_cell;

use crate::screen::Screen;
use crate::server_text::age;
use crate::status_table::StatusTable;
use crate::table::{cut, wrap};

/// Fewest lines that a table is worth: its header, a server, and the totals.
const LEAST_TABLE: usize = 3;

/// A report, and how it is shown.
#[derive(Debug, Clone, Copy)]
pub struct AllTable<'a> {
    /// What is shown.
    pub report: &'a AllStatusReport,
    /// For the age of failures.
    pub now: Timestamp,
    /// Where it is shown.
    pub screen: Screen,
}

impl<'a> AllTable<'a> {
    /// The report on standard output at this moment.
    pub fn now(report: &'a AllStatusReport) -> Self {
        Self { report, now: Timestamp::now(), screen: Screen::now() }
    }

    /// Every server of every machine.
    pub fn text(&self) -> String {
        self.lines(None).join("\n")
    }

    /// The lines that fit into `limit`: of the machines that answer, each gets the same share.
    pub fn lines(&self, limit: Option<usize>) -> Vec<String> {
        let AllStatusReport { own, peers } = self.report;
        let answering = 1 + peers.iter().filter(|peer| peer.status.is_some()).count();
        let share = limit.map(|limit| limit.saturating_sub(peers.len()) / answering);
        let table = |report| StatusTable { now: self.now, screen: self.screen, ..StatusTable::now(report) };
        let mut lines = match share {
            Some(share) if share < LEAST_TABLE => table(own).lines(Some(1)),
            share => table(own).lines(share),
        };
        for peer in peers {
            if limit.is_none() {
                lines.push(String::new());
            }
            lines.extend(self.headline(peer, limit.is_some()));
            if let Some(status) = peer.status.as_ref().filter(|_| share.is_none_or(|share| share >= LEAST_TABLE)) {
                lines.extend(table(status).lines(share));
            }
        }
        lines.truncate(limit.unwrap_or(usize::MAX));
        lines
    }

    /// The line above the table of a peer, or in its place.
    fn headline(&self, peer: &PeerReport, one_line: bool) -> Vec<String> {
        let PeerReport { name, url, problem, status, .. } = peer;
        let text = match (problem, status) {
            (Some(problem), _) => format!("{name}: {} ({url})", peer_problem(peer, problem, self.now)),
            (None, Some(status)) => {
                format!("{name}: {} of {} ready ({url})", status.ready_servers, status.total_servers)
            }
            (None, None) => format!("{name} ({url})"),
        };
        let text = for_cell(&text);
        match self.screen.columns() {
            Some(width) if one_line => vec![cut(&text, width)],
            Some(width) => wrap(&text, width),
            None => vec![text.into_owned()],
        }
    }
}

/// `timed-out for 4m10s, its last answer is 5m00s old: no answer within 2 s; see whether …`.
pub fn peer_problem(peer: &PeerReport, problem: &PeerProblemReport, now: Timestamp) -> String {
    let age_of = |at: llama_warden_events::Timestamp| {
        let seconds = now.as_second().saturating_sub(at.as_unix_seconds() as i64);
        age(u64::try_from(seconds).unwrap_or_default())
    };
    let answered = peer.answered_at.map(|at| format!(", its last answer is {} old", age_of(at))).unwrap_or_default();
    let PeerProblemReport { reason, detail, next_step, since } = problem;
    format!("{} for {}{answered}: {detail}; {next_step}", reason.as_str(), age_of(*since))
}

#[cfg(test)]
mod tests {
    use llama_warden_api_types::{PeerProblem, StatusReport};
    use llama_warden_component_kit::{card, server};
    use llama_warden_events::{BootId, Uptime};
    use llama_warden_state::{ServerRecord, Snapshot};
    use unicode_width::UnicodeWidthStr as _;

    use super::*;
    use crate::screen::ScreenSize;

    fn now() -> Timestamp {
        "2026-11-22T13:05:01Z".parse().expect("valid")
    }

    fn status(ids: &[&str]) -> StatusReport {
        let mut snapshot = Snapshot::new(BootId::from_random(7));
        for id in ids {
            let record = ServerRecord::new(card(&server(id)).into(), Uptime::default());
            snapshot.servers.insert(server(id), record.into());
        }
        StatusReport::of(&snapshot, Uptime::default())
    }

    fn report() -> AllStatusReport {
        let url = |name: &str| format!("http://{name}:9888");
        let at = |seconds| llama_warden_events::Timestamp::new(now() - jiff::SignedDuration::from_secs(seconds));
        let answering = PeerReport {
            name: "gpu2".to_owned(),
            url: url("gpu2"),
            problem: None,
            answered_at: Some(at(0)),
            status: Some(status(&["b", "c"])),
        };
        let problem = PeerProblemReport {
            reason: PeerProblem::TimedOut,
            detail: "no answer within 2 s".to_owned(),
            next_step: "see why".to_owned(),
            since: at(250),
        };
        let silent = PeerReport {
            name: "gpu3".to_owned(),
            url: url("gpu3"),
            problem: Some(problem),
            answered_at: Some(at(300)),
            status: None,
        };
        AllStatusReport { own: status(&["a"]), peers: vec![answering, silent] }
    }

    fn lines(columns: usize, limit: Option<usize>) -> Vec<String> {
        let screen = Screen { size: Some(ScreenSize { columns, rows: 40 }), colours: false };
        AllTable { report: &report(), now: now(), screen }.lines(limit)
    }

    #[test]
    fn each_machine_has_a_table_and_one_that_does_not_answer_its_reason() {
        let text = lines(160, None).join("\n");
        for expected in [
            "gpu2: 0 of 2 ready (http://gpu2:9888)",
            "gpu3: timed-out for 4m10s, its last answer is 5m00s old: no answer within 2 s; see why (http://gpu3:9888)",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert_eq!(text.matches("SERVER").count(), 2, "{text}");
    }

    #[test]
    fn no_line_is_wider_and_no_frame_higher_than_the_window() {
        for columns in [1, 20, 80, 160] {
            for limit in [None, Some(1), Some(4), Some(7), Some(12), Some(40)] {
                let lines = lines(columns, limit);
                assert!(lines.len() <= limit.unwrap_or(usize::MAX), "{columns} {limit:?}: {lines:#?}");
                assert!(lines.iter().all(|line| line.width() <= columns), "{columns} {limit:?}: {lines:#?}");
            }
        }
    }

    #[test]
    fn in_a_low_window_a_peer_without_an_answer_is_told_all_the_same() {
        let text = lines(80, Some(4)).join("\n");
        assert!(text.contains("gpu3: timed-out") && text.contains("gpu2"), "{text}");
    }
}
