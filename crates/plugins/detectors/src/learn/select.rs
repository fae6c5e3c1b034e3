//! Chooses the ready line, the hints before it, and the lines of progress.

use super::observe::{LineOrder, Observed, ObservedLine};
use super::template::NamesPort;

/// Most `nearly-ready` patterns: each match costs one probe.
const MOST_HINTS: usize = 4;
/// Most `progress` patterns.
const MOST_PROGRESS: usize = 12;

/// The lines that become patterns.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    pub(crate) ready: &'a ObservedLine,
    pub(crate) nearly_ready: Vec<&'a ObservedLine>,
    pub(crate) progress: Vec<&'a ObservedLine>,
}

/// Chooses the lines that become patterns. `None` if no line comes with readiness.
pub(crate) fn select(observed: &Observed) -> Option<Selection<'_>> {
    let lines = || observed.lines.iter().filter(|line| line.is_in_each());
    // Best is a line that names our port: it cannot be another server's. Next best is one that reads like readiness, since
    // others may come at that time by chance. Then the nearest to the first 200.
    let rank = |line: &&ObservedLine| (line.template.port == NamesPort::No, !line.looks_ready(), line.timing.distance);
    let ready = lines().filter(|line| line.timing.order == LineOrder::With).min_by_key(rank)?;
    let before = |line: &&ObservedLine| line.position < ready.position && line.template != ready.template;
    let reads_done =
        |line: &&ObservedLine| line.looks_ready() || line.has_word(&["loaded", "done", "complete", "completed"]);
    let comes_with = |line: &&ObservedLine| line.timing.order == LineOrder::With;
    let nearly_ready: Vec<&ObservedLine> =
        lines().filter(before).filter(comes_with).filter(reads_done).take(MOST_HINTS).collect();
    let is_hint = |line: &ObservedLine| nearly_ready.iter().any(|hint| hint.template == line.template);
    let progress =
        lines().filter(before).filter(|line| reads_like_progress(line) && !line.looks_ready() && !is_hint(line));
    let progress = progress.take(MOST_PROGRESS).collect();
    Some(Selection { ready, nearly_ready, progress })
}

/// Whether a line reads like loading, or is a bar of one repeated character.
fn reads_like_progress(line: &ObservedLine) -> bool {
    const WORDS: [&str; 8] = ["load", "loading", "loaded", "loader", "init", "initializing", "warming", "warmup"];
    let is_bar = line.template.regex.ends_with("+$") && line.template.regex.len() <= "^\\.+$".len();
    is_bar || line.has_word(&WORDS)
}
