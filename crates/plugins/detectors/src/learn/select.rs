//! Which of the lines mean what.

use super::observe::{LineOrder, Observed, ObservedLine};
use super::template::NamesPort;

/// Most hints; each makes readiness look once.
const MOST_HINTS: usize = 4;
/// Most lines of progress.
const MOST_PROGRESS: usize = 12;

/// The lines that become patterns.
#[derive(Debug)]
pub(crate) struct Selection<'a> {
    pub(crate) ready: &'a ObservedLine,
    pub(crate) nearly_ready: Vec<&'a ObservedLine>,
    pub(crate) progress: Vec<&'a ObservedLine>,
}

/// Chooses the ready line, and what belongs to it; `None` if no line comes with readiness.
pub(crate) fn select(observed: &Observed) -> Option<Selection<'_>> {
    let lines = || observed.lines.iter().filter(|line| line.is_in_each());
    // The line that names our port cannot be another server's; one that reads like readiness is rather meant so than one
    // that only happens to come then.
    let rank = |line: &&ObservedLine| (line.template.port == NamesPort::No, !line.looks_ready(), line.timing.distance);
    let ready = lines().filter(|line| line.timing.order == LineOrder::With).min_by_key(rank)?;
    let before = |line: &&ObservedLine| line.position < ready.position && line.template != ready.template;
    let tells_end =
        |line: &&ObservedLine| line.looks_ready() || line.has_word(&["loaded", "done", "complete", "completed"]);
    let comes_with = |line: &&ObservedLine| line.timing.order == LineOrder::With;
    let nearly_ready: Vec<&ObservedLine> =
        lines().filter(before).filter(comes_with).filter(tells_end).take(MOST_HINTS).collect();
    let is_hint = |line: &ObservedLine| nearly_ready.iter().any(|hint| hint.template == line.template);
    let progress = lines().filter(before).filter(|line| tells_progress(line) && !line.looks_ready() && !is_hint(line));
    let progress = progress.take(MOST_PROGRESS).collect();
    Some(Selection { ready, nearly_ready, progress })
}

fn tells_progress(line: &ObservedLine) -> bool {
    const WORDS: [&str; 8] = ["load", "loading", "loaded", "loader", "init", "initializing", "warming", "warmup"];
    let is_bar = line.template.regex.ends_with("+$") && line.template.regex.len() <= "^\\.+$".len();
    is_bar || line.has_word(&WORDS)
}
