//! Summarises the lines of one launch until the component reads them: hints, progress, failure evidence, and the last lines.
//!
//! The tasks that read the two pipes write here; the component takes an [`OutputSummary`]. Nothing is queued: of hints, the
//! first line of each stream and strength is kept, and of progress the latest. So no output can fill the memory or make a
//! pipe wait.
//!
//! Lines can come before the component has chosen a matcher: the launcher opens the output as soon as the process is
//! published. Such early lines are kept, in order, and matched once there is a matcher. If they grow beyond [`EARLY_LIMIT`],
//! the patterns of the generic pack match them, and the probe finds readiness.

use std::collections::VecDeque;

use llama_warden_detectors::{Matcher, PatternMatcher, Verdict, message_text, strip_controls};
use llama_warden_events::{FailureReason, ProcessEnd, StreamName, Uptime};
use llama_warden_support::head_and_tail;
use tokio::time::Instant;

use crate::failure::FailureEvidence;
use crate::launch_requests::LaunchRequests;
use crate::machine::{HintStrength, OutputSummary, ReadinessHint};

/// Most bytes of early lines; and a sixteenth of that, most early lines, since empty ones cost memory too.
const EARLY_LIMIT: usize = 256 * 1024;
/// How many last lines are kept, for the failure event.
const TAIL_LINES: usize = 12;
/// Most bytes that are kept of a line.
const LINE_LIMIT: usize = 512;

/// Makes the matcher for a launch whose early lines exceed the limit, which hardly ever happens.
pub(crate) type MakeFallback = Box<dyn FnOnce() -> Box<dyn Matcher> + Send>;

/// The output of one launch.
pub(crate) struct LaunchOutput {
    matcher: MatcherState,
    tail: Tail,
    /// How many lines came, without echoes.
    lines: u64,
    evidence: Option<Box<NumberedEvidence>>,
    /// `None` after the verdict: then only evidence is kept.
    pending: Option<Box<PendingOutput>>,
    requests: LaunchRequests,
}

enum MatcherState {
    Waiting(Box<EarlyLines>),
    Matching(Box<dyn Matcher>),
}

/// Lines that came before their matcher.
struct EarlyLines {
    lines: Vec<(StreamName, Box<[u8]>)>,
    bytes: usize,
    make_fallback: MakeFallback,
}

/// Evidence, and the number of its line.
struct NumberedEvidence {
    number: u64,
    evidence: FailureEvidence,
}

/// The next summary.
#[derive(Default)]
struct PendingOutput {
    hints: Vec<ReadinessHint>,
    progress: Option<Option<f64>>,
    has_model: bool,
    /// When the server last wrote something, a line or not.
    last_line: Option<Instant>,
    /// Whether there was a line since. The clock is read once for all lines of a read.
    has_line: bool,
}

impl LaunchOutput {
    /// The output of a launch whose matcher is not chosen yet.
    pub(crate) fn new(make_fallback: MakeFallback, requests: LaunchRequests) -> Self {
        let early = EarlyLines { lines: Vec::new(), bytes: 0, make_fallback };
        Self {
            matcher: MatcherState::Waiting(Box::new(early)),
            tail: Tail::default(),
            lines: 0,
            evidence: None,
            pending: Some(Box::default()),
            requests,
        }
    }

    /// Says what is known of the launch's lines about requests before it prints one.
    pub(crate) const fn requests(&mut self) -> &mut LaunchRequests {
        &mut self.requests
    }

    /// Reads a line. Returns whether the component should take a summary.
    pub(crate) fn on_line(&mut self, stream: StreamName, line: &[u8]) -> bool {
        let MatcherState::Waiting(early) = &mut self.matcher else { return self.match_line(stream, line) };
        early.bytes += line.len();
        if early.bytes <= EARLY_LIMIT && early.lines.len() < EARLY_LIMIT / 16 {
            early.lines.push((stream, line.into()));
            return false;
        }
        let has_news = self.start_matching(None);
        self.match_line(stream, line) || has_news
    }

    /// The server wrote bytes that complete no line, such as a progress bar: it is alive. The component asks when its time is over.
    pub(crate) fn on_activity(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.last_line = Some(Instant::now());
        }
    }

    /// The lines so far are all that was there.
    pub(crate) fn on_pause(&mut self) {
        if let Some(pending) = &mut self.pending {
            pending.date_lines();
        }
    }

    /// Matches the early lines with `matcher`, and those to come. Returns whether the component should take a summary.
    pub(crate) fn set_matcher(&mut self, matcher: Box<dyn Matcher>) -> bool {
        self.start_matching(Some(matcher))
    }

    /// Without a `matcher`, the present one stays, and a launch that has none gets the fallback.
    fn start_matching(&mut self, matcher: Option<Box<dyn Matcher>>) -> bool {
        // An empty matcher stands in while matchers are exchanged.
        let before = std::mem::replace(&mut self.matcher, MatcherState::Matching(Box::new(PatternMatcher::empty())));
        let (early, matcher) = match before {
            MatcherState::Waiting(early) => (early.lines, matcher.unwrap_or_else(early.make_fallback)),
            MatcherState::Matching(current) => (Vec::new(), matcher.unwrap_or(current)),
        };
        self.matcher = MatcherState::Matching(matcher);
        early.into_iter().fold(false, |has_news, (stream, line)| self.match_line(stream, &line) || has_news)
    }

    fn match_line(&mut self, stream: StreamName, line: &[u8]) -> bool {
        let MatcherState::Matching(matcher) = &mut self.matcher else { return false };
        let verdict = matcher.on_line(stream, line);
        if verdict == Verdict::Echo {
            return false;
        }
        self.lines += 1;
        self.tail.push(line);
        match verdict {
            Verdict::Failure { reason, rank } => self.keep_evidence(reason, rank, line),
            Verdict::Request(line) => self.requests.note(line),
            Verdict::Ready | Verdict::NearlyReady => self.requests.on_ready_line(),
            _ => {}
        }
        self.pending.as_mut().is_some_and(|pending| pending.add(stream, verdict, line))
    }

    /// Before the verdict, the most specific line counts. After it, a server may survive failures for months, so that only a
    /// recent one can explain the end.
    fn keep_evidence(&mut self, reason: FailureReason, rank: u16, line: &[u8]) {
        let replaces = self
            .evidence
            .as_ref()
            .is_none_or(|kept| rank < kept.evidence.rank || self.pending.is_none() && self.is_old(kept.number));
        if replaces {
            let line = message_text(&line[..line.len().min(LINE_LIMIT)]);
            let evidence = FailureEvidence { reason, rank, line };
            self.evidence = Some(Box::new(NumberedEvidence { number: self.lines, evidence }));
        }
    }

    /// Whether a line is no longer among the last ones.
    const fn is_old(&self, number: u64) -> bool {
        self.lines - number >= TAIL_LINES as u64
    }

    /// Takes the summary of the lines since the last one; `now` is the present time.
    pub(crate) fn take_summary(&mut self, now: Uptime) -> OutputSummary {
        self.on_pause();
        let PendingOutput { mut hints, progress, has_model, last_line, .. } =
            self.pending.as_deref_mut().map(std::mem::take).unwrap_or_default();
        // The ready line goes last, whichever pipe was read first: what it says is the later truth.
        hints.sort_by_key(|hint| (hint.strength, hint.stream));
        let last_line = last_line.map(|at| Uptime::new(now.as_duration().saturating_sub(at.elapsed())));
        OutputSummary { hints, progress, has_model, last_line }
    }

    /// The launch has its verdict: from now on only evidence is kept, and that of the start-up explains no later end.
    pub(crate) fn on_verdict(&mut self) {
        self.pending = None;
        self.evidence = None;
        self.requests.on_verdict();
    }

    /// The line that explains an end of the process now.
    pub(crate) fn evidence(&self) -> Option<FailureEvidence> {
        let NumberedEvidence { number, evidence } = &**self.evidence.as_ref()?;
        (self.pending.is_some() || !self.is_old(*number)).then(|| evidence.clone())
    }

    /// The line that explains this end of the process. The last line of a program that a shell or the loader could not run
    /// is the shell's or the loader's.
    pub(crate) fn evidence_for(&mut self, end: ProcessEnd) -> Option<FailureEvidence> {
        let found = self.evidence();
        if found.is_some() || !matches!(end, ProcessEnd::Exited { code: 126 | 127 }) {
            return found;
        }
        let line = message_text(self.last_lines().pop()?.as_bytes());
        Some(FailureEvidence { reason: FailureReason::BinaryBroken, rank: u16::MAX, line })
    }

    /// The last lines, oldest first, without terminal control.
    pub(crate) fn last_lines(&mut self) -> Vec<String> {
        // A process may end before its matcher is chosen. Then all its lines are early lines.
        self.start_matching(None);
        self.tail.lines()
    }
}

impl PendingOutput {
    /// Says that the lines since the last time came now.
    fn date_lines(&mut self) {
        if std::mem::take(&mut self.has_line) {
            self.last_line = Some(Instant::now());
        }
    }

    /// Adds a line that is no echo. Returns whether the component should take a summary.
    fn add(&mut self, stream: StreamName, verdict: Verdict, line: &[u8]) -> bool {
        self.has_line = true;
        let strength = match verdict {
            Verdict::Progress { percent } | Verdict::Loading { percent } => {
                self.has_model |= matches!(verdict, Verdict::Loading { .. });
                self.progress = Some(percent.or(self.progress.flatten()));
                return true;
            }
            Verdict::NearlyReady => HintStrength::NearlyReady,
            Verdict::Ready => HintStrength::Ready,
            Verdict::Nothing | Verdict::Echo | Verdict::Failure { .. } | Verdict::Request(_) => {
                return !self.hints.is_empty();
            }
        };
        if !self.hints.iter().any(|hint| hint.stream == stream && hint.strength == strength) {
            self.hints.push(ReadinessHint { stream, strength, line: printable(line) });
        }
        true
    }
}

/// The last lines, one after the other in one buffer: a `String` each would cost three words and an allocation.
#[derive(Default)]
struct Tail {
    bytes: VecDeque<u8>,
    /// The length of each line, the oldest first; 0 for a line that did not come yet.
    lengths: [u16; TAIL_LINES],
}

impl Tail {
    fn push(&mut self, line: &[u8]) {
        // An empty line says nothing and would push out one that does.
        if line.is_empty() {
            return;
        }
        let line = head_and_tail(line, LINE_LIMIT);
        self.bytes.drain(..usize::from(self.lengths[0]));
        // No spare room: a server that is ready may write nothing more for months.
        self.bytes.reserve_exact(line.len());
        self.bytes.extend(&*line);
        self.lengths.rotate_left(1);
        self.lengths[TAIL_LINES - 1] = line.len() as u16;
    }

    fn lines(&self) -> Vec<String> {
        let mut bytes = self.bytes.iter().copied();
        let lines = self.lengths.iter().map(|length| bytes.by_ref().take((*length).into()).collect::<Vec<u8>>());
        lines.filter(|line| !line.is_empty()).map(|line| printable(&line)).collect()
    }
}

/// A line as text: at most [`LINE_LIMIT`] bytes, its head and its tail, without terminal control.
fn printable(line: &[u8]) -> String {
    let mut clean = Vec::new();
    strip_controls(&head_and_tail(line, LINE_LIMIT), &mut clean);
    let mut text = String::from_utf8_lossy(&clean).into_owned();
    // A replacement character is longer than the byte that it stands for.
    while text.len() > LINE_LIMIT {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests;
