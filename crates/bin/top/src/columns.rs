//! The columns of the table, and which of them a window has room for.

use std::path::Path;

use jiff::Timestamp;
use llama_warden_api_types::ServerReport;
use llama_warden_memory::Bytes;
use llama_warden_terminal::server_text::{age, base_url};
use llama_warden_terminal::status_table::failure_and_age;

/// Blanks between two columns.
pub(crate) const GAP: u16 = 2;

/// The width of the phase.
pub(crate) const PHASE_WIDTH: u16 = 13;

/// The columns that a long name keeps.
const LEAST_NAME: u16 = 24;

/// What a row tells of a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShownServer<'a> {
    pub(crate) server: &'a ServerReport,
    /// Bytes that it holds, where its daemon says so.
    pub(crate) held: Option<u64>,
    pub(crate) now: Timestamp,
}

/// A column behind the name and the phase.
#[derive(Debug)]
pub(crate) struct TopColumn {
    pub(crate) title: &'static str,
    pub(crate) width: u16,
    /// What a person needs first has the lowest number.
    rank: u8,
    pub(crate) text: fn(&ShownServer<'_>) -> String,
}

const COLUMNS: [TopColumn; 11] = [
    TopColumn { title: "UPTIME", width: 7, rank: 1, text: uptime },
    TopColumn { title: "ADDRESS", width: 22, rank: 2, text: |shown| base_url(shown.server) },
    TopColumn { title: "SLOTS", width: 5, rank: 3, text: slots },
    TopColumn { title: "TOK/S IN OUT", width: 14, rank: 4, text: rates },
    TopColumn { title: "MEMORY", width: 8, rank: 5, text: memory },
    TopColumn { title: "MODEL", width: 24, rank: 11, text: model },
    TopColumn { title: "TIER", width: 8, rank: 9, text: |shown| shown.server.tier.clone().unwrap_or_default() },
    TopColumn {
        title: "BUILD",
        width: 8,
        rank: 10,
        text: |shown| shown.server.llama_version.clone().unwrap_or_default(),
    },
    TopColumn { title: "PID", width: 8, rank: 8, text: pid },
    TopColumn { title: "RESTARTS", width: 8, rank: 6, text: restarts },
    TopColumn { title: "LAST FAILURE", width: 28, rank: 7, text: last_failure },
];

/// The columns for a window of `width`, and the width of the names: as much as the `longest` needs, unless it is very long.
pub(crate) fn fitting(width: u16, longest: usize) -> (Vec<&'static TopColumn>, u16) {
    let name = u16::try_from(longest).unwrap_or(u16::MAX).clamp(6, LEAST_NAME);
    let mut used = PHASE_WIDTH + GAP;
    let mut by_rank: Vec<_> = COLUMNS.iter().collect();
    by_rank.sort_by_key(|column| column.rank);
    let mut ranks = Vec::new();
    for column in by_rank {
        if used + column.width + GAP + name <= width {
            used += column.width + GAP;
            ranks.push(column.rank);
        }
    }
    let shown = COLUMNS.iter().filter(|column| ranks.contains(&column.rank)).collect();
    (shown, width.saturating_sub(used))
}

fn uptime(shown: &ShownServer<'_>) -> String {
    if shown.server.is_running { age(shown.server.uptime_seconds) } else { String::new() }
}

/// The slots that work, where the build says so.
fn slots(shown: &ShownServer<'_>) -> String {
    let requests = shown.server.requests.as_ref().filter(|_| shown.server.is_running);
    requests.map(|requests| requests.slots_busy.to_string()).unwrap_or_default()
}

/// Tokens per second of prompts and of answers over the last minute.
fn rates(shown: &ShownServer<'_>) -> String {
    let rate = |rate: Option<f64>| rate.map_or_else(|| "–".to_owned(), |rate| format!("{rate:.0}"));
    match &shown.server.requests {
        Some(requests) if requests.prompt_tokens_per_second.or(requests.decode_tokens_per_second).is_some() => {
            format!("{:>5} {:>6}", rate(requests.prompt_tokens_per_second), rate(requests.decode_tokens_per_second))
        }
        _ => String::new(),
    }
}

fn memory(shown: &ShownServer<'_>) -> String {
    let held = shown.held.filter(|_| shown.server.is_running);
    held.map(|held| Bytes(held).to_string()).unwrap_or_default()
}

/// The file of the model.
fn model(shown: &ShownServer<'_>) -> String {
    let name = shown.server.model.as_deref().and_then(Path::file_stem).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn pid(shown: &ShownServer<'_>) -> String {
    shown.server.pid.map(|pid| pid.to_string()).unwrap_or_default()
}

fn restarts(shown: &ShownServer<'_>) -> String {
    if shown.server.restarts > 0 { shown.server.restarts.to_string() } else { String::new() }
}

fn last_failure(shown: &ShownServer<'_>) -> String {
    shown.server.last_failure.as_ref().map(|failure| failure_and_age(failure, shown.now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_room_in_a_window_of_any_width() {
        for width in [0, 5, 20, 60, 80, 100, 120, 160, 250] {
            for longest in [1, 12, 64] {
                let (columns, name) = fitting(width, longest);
                let used: u16 = columns.iter().map(|column| column.width + GAP).sum();
                assert!(used + PHASE_WIDTH + GAP + name <= width || columns.is_empty(), "{width} {longest}");
                let wanted = u16::try_from(longest).expect("small").min(LEAST_NAME);
                assert!(name >= wanted.min(width.saturating_sub(PHASE_WIDTH + GAP)), "{width} {longest}: {name}");
            }
        }
        let titles = |width, longest| fitting(width, longest).0.iter().map(|column| column.title).collect::<Vec<_>>();
        assert_eq!(titles(80, 64), ["UPTIME", "ADDRESS", "SLOTS"]);
        assert_eq!(titles(250, 64).len(), COLUMNS.len());
    }
}
