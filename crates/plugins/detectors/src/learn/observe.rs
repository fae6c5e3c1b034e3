//! Turns the recordings into templates, each with the times at which it first came in each start.

use std::collections::BTreeMap;
use std::time::Duration;

use llama_warden_events::StreamName;

use super::recording::{LearnSubject, Recording, is_early};
use super::template::{NamesPort, PassedArguments, Template};
use crate::built_in::GENERIC;
use crate::line::LineCleaner;
use crate::matcher::{Matcher, Verdict};
use crate::pack::PackSet;
use crate::pack_file::StructuredSource;
use crate::patterns::PatternMatcher;

/// The templates of all recordings.
#[derive(Debug)]
pub(crate) struct Observed {
    /// One entry per template and stream, in the order in which the first start prints them.
    pub(crate) lines: Vec<ObservedLine>,
    /// How many lines of the first start were considered: echoes and known failures are not.
    pub(crate) seen: usize,
}

/// All lines of one template on one stream.
#[derive(Debug, Clone)]
pub(crate) struct ObservedLine {
    pub(crate) stream: StreamName,
    pub(crate) template: Template,
    /// The first such line, with the model's path replaced: the recorder's own paths do not belong into a pack.
    pub(crate) example: String,
    /// The message of that line without the model's path, whose words mean nothing.
    pub(crate) words: String,
    pub(crate) timing: Timing,
    /// In how many starts the template was seen.
    starts: usize,
    /// How many starts there were.
    of: usize,
    /// The line's position in the first start that has it.
    pub(crate) position: usize,
}

/// When a line comes, compared with readiness, over all starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    pub(crate) order: LineOrder,
    /// The largest distance from the first 200.
    pub(crate) distance: Duration,
}

/// Whether a line was ever seen before readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LineOrder {
    /// In some start it came too early to belong to readiness.
    Before,
    /// In every start it came with readiness, or after it.
    With,
}

impl ObservedLine {
    /// Whether every start has the line.
    pub(crate) fn is_in_each(&self) -> bool {
        self.starts == self.of
    }

    /// Whether the line reads like readiness: it names the port, or has a word for it.
    pub(crate) fn looks_ready(&self) -> bool {
        const WORDS: [&str; 7] = ["ready", "listening", "listen", "started", "running", "serving", "accepting"];
        self.template.port == NamesPort::Yes || self.has_word(&WORDS)
    }

    /// Whether the line has one of these words, in any case.
    pub(crate) fn has_word(&self, words: &[&str]) -> bool {
        let is_part = |c: char| !c.is_ascii_alphanumeric() && c != '_';
        self.words.split(is_part).any(|word| words.iter().any(|wanted| word.eq_ignore_ascii_case(wanted)))
    }
}

impl Observed {
    /// The lines that read like readiness and come before it.
    pub(crate) fn early_looking(&self) -> impl Iterator<Item = &ObservedLine> {
        self.lines.iter().filter(|line| line.timing.order == LineOrder::Before && line.looks_ready())
    }
}

/// Collects the templates of all recordings.
pub(crate) fn observe(subject: &LearnSubject, recordings: &[Recording], packs: &PackSet) -> Observed {
    let mut lines: BTreeMap<(StreamName, Template), ObservedLine> = BTreeMap::new();
    let mut seen = 0;
    for (start, recording) in recordings.iter().enumerate() {
        let mut known = packs.get(GENERIC).map_or_else(PatternMatcher::empty, |pack| pack.matcher(None));
        let cleaner = LineCleaner::new(&[StructuredSource::LogJsonl]);
        for (position, recorded) in recording.lines.iter().enumerate() {
            // Echoes come with our own requests, and the shared patterns of every pack know the failures.
            if matches!(known.on_line(recorded.stream, &recorded.line), Verdict::Echo | Verdict::Failure { .. }) {
                continue;
            }
            let line = cleaner.clean(&recorded.line);
            let Ok(text) = std::str::from_utf8(&line.text) else { continue };
            if text.trim().is_empty() {
                continue;
            }
            seen += usize::from(start == 0);
            let passed = PassedArguments { port: recording.port, host: &subject.host, model: &subject.model };
            let template = Template::of(text, passed);
            let model = subject.model.display().to_string();
            let distance = recorded.at.abs_diff(recording.ready);
            let order = if is_early(recorded.at, recording) { LineOrder::Before } else { LineOrder::With };
            let line = lines.entry((recorded.stream, template.clone())).or_insert_with(|| ObservedLine {
                stream: recorded.stream,
                template,
                example: String::from_utf8_lossy(&recorded.line).replace(&model, "/models/model.gguf"),
                words: text.replace(&model, ""),
                timing: Timing { order, distance },
                starts: 0,
                of: recordings.len(),
                position,
            });
            if order == LineOrder::Before {
                line.timing.order = LineOrder::Before;
            }
            // A template may come many times in a start. Only the first time counts.
            if line.starts == start {
                line.starts += 1;
                line.timing.distance = line.timing.distance.max(distance);
            }
        }
    }
    let mut lines: Vec<ObservedLine> = lines.into_values().collect();
    lines.sort_by_key(|line| line.position);
    Observed { lines, seen }
}
