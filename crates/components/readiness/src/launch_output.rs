//! What was read of one incarnation's output: hits, progress, evidence, and the last lines.
//!
//! Written by the tasks that read the two pipes, taken by the component. Nothing is queued: a slot holds the first hit of
//! each kind until it is taken, and the latest progress, so that no output can fill anything or make a matcher wait.
//!
//! Lines can come before the component knows how to read them: the launcher opens the output as soon as the process is
//! published. They are kept, in order, and read once a matcher is there. If they grow beyond [`EARLY_LIMIT`], the generic
//! patterns read them; the probe finds the truth meanwhile.

use std::collections::VecDeque;

use llama_warden_detectors::{Matcher, Verdict, strip_controls};
use llama_warden_events::{FailureReason, StreamName};
use tokio::time::Instant;

use crate::failure::FailureEvidence;
use crate::machine::{HintStrength, ReadinessHint};

/// Most bytes of lines that wait for a matcher.
const EARLY_LIMIT: usize = 256 * 1024;
/// How many last lines are kept for a failure.
const TAIL_LINES: usize = 12;
/// Most bytes of a line that are kept.
const LINE_LIMIT: usize = 512;

/// Makes the matcher that reads when the right one takes too long to come: hardly ever.
pub(crate) type MakeFallback = Box<dyn FnOnce() -> Box<dyn Matcher> + Send>;

/// See the module.
pub(crate) struct LaunchOutput {
    matcher: MatcherState,
    tail: Tail,
    /// Lines other than echoes.
    lines: u64,
    evidence: Option<Box<LatestEvidence>>,
    /// What the component still wants to know beside why the process may end: nothing, once the verdict is out.
    pending: Option<Box<PendingOutput>>,
}

enum MatcherState {
    Waiting(Box<Waiting>),
    Matching(Box<dyn Matcher>),
}

/// Lines that came before their matcher.
struct Waiting {
    early: Vec<(StreamName, Box<[u8]>)>,
    bytes: usize,
    fallback: MakeFallback,
}

/// FailureEvidence, and after how many lines it came.
struct LatestEvidence {
    at: u64,
    evidence: FailureEvidence,
}

/// What was read of a server that is on its way, until it is taken.
#[derive(Default)]
struct PendingOutput {
    last_line: Option<Instant>,
    slots: [Option<String>; 4],
    progress: Option<Option<f64>>,
}

/// What there is to take.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    pub(crate) hints: Vec<ReadinessHint>,
    pub(crate) progress: Option<Option<f64>>,
    pub(crate) last_line: Option<Instant>,
}

impl LaunchOutput {
    /// A output that waits for its matcher; what `fallback` makes reads when it takes too long.
    pub(crate) fn new(fallback: MakeFallback) -> Self {
        Self {
            matcher: MatcherState::Waiting(Box::new(Waiting { early: Vec::new(), bytes: 0, fallback })),
            tail: Tail::default(),
            lines: 0,
            evidence: None,
            pending: Some(Box::default()),
        }
    }

    /// Takes a line in. Returns whether there is something new to take.
    pub(crate) fn on_line(&mut self, stream: StreamName, line: &[u8]) -> bool {
        let MatcherState::Waiting(waiting) = &mut self.matcher else { return self.read(stream, line) };
        waiting.bytes += line.len();
        if waiting.bytes <= EARLY_LIMIT && waiting.early.len() < EARLY_LIMIT / 16 {
            waiting.early.push((stream, line.into()));
            return false;
        }
        let pending = self.start_matching(None);
        self.read(stream, line) || pending
    }

    /// Begins to read with `matcher`, the lines that waited first. Returns whether there is something to take.
    pub(crate) fn set_matcher(&mut self, matcher: Box<dyn Matcher>) -> bool {
        self.start_matching(Some(matcher))
    }

    fn start_matching(&mut self, matcher: Option<Box<dyn Matcher>>) -> bool {
        let waiting = std::mem::replace(&mut self.matcher, MatcherState::Matching(Box::new(NullMatcher)));
        let (early, matcher) = match waiting {
            MatcherState::Waiting(waiting) => {
                let Waiting { early, fallback, .. } = *waiting;
                (early, matcher.unwrap_or_else(fallback))
            }
            MatcherState::Matching(current) => (Vec::new(), matcher.unwrap_or(current)),
        };
        self.matcher = MatcherState::Matching(matcher);
        let mut pending = false;
        for (stream, line) in early {
            pending |= self.read(stream, &line);
        }
        pending
    }

    fn read(&mut self, stream: StreamName, line: &[u8]) -> bool {
        let MatcherState::Matching(matcher) = &mut self.matcher else { return false };
        let verdict = matcher.on_line(stream, line);
        if verdict == Verdict::Echo {
            return false;
        }
        self.lines += 1;
        self.tail.push(line);
        if let Verdict::Failure { reason, rank } = verdict {
            self.keep_evidence(reason, rank, line);
        }
        self.pending.as_mut().is_some_and(|pending| pending.read(stream, verdict, line))
    }

    /// Before the verdict the most specific line counts; afterwards only a recent one can explain an end.
    fn keep_evidence(&mut self, reason: FailureReason, rank: u16, line: &[u8]) {
        let replaces = match &self.evidence {
            None => true,
            Some(kept) => rank < kept.evidence.rank || self.pending.is_none() && self.is_old(kept.at),
        };
        if replaces {
            let evidence = FailureEvidence { reason, rank, line: printable(line) };
            self.evidence = Some(Box::new(LatestEvidence { at: self.lines, evidence }));
        }
    }

    const fn is_old(&self, at: u64) -> bool {
        self.lines - at >= TAIL_LINES as u64
    }

    /// Takes what is new.
    pub(crate) fn take(&mut self) -> Taken {
        self.pending.as_mut().map(|pending| pending.take()).unwrap_or_default()
    }

    /// The verdict is out: from now on only evidence is kept, and what there was explains nothing any more.
    pub(crate) fn on_verdict(&mut self) {
        self.pending = None;
        self.evidence = None;
    }

    /// Why the process ended, as far as lines tell.
    pub(crate) fn evidence(&self) -> Option<FailureEvidence> {
        let LatestEvidence { at, evidence } = &**self.evidence.as_ref()?;
        (self.pending.is_some() || !self.is_old(*at)).then(|| evidence.clone())
    }

    /// The last lines, oldest first, fit to be read.
    pub(crate) fn last_lines(&mut self) -> Vec<String> {
        // A process that ended before anybody knew how to read it: its lines are still waiting.
        self.start_matching(None);
        self.tail.lines()
    }
}

impl PendingOutput {
    /// Takes a line in that is no echo. Returns whether there is something new to take.
    fn read(&mut self, stream: StreamName, verdict: Verdict, line: &[u8]) -> bool {
        self.last_line = Some(Instant::now());
        match verdict {
            Verdict::Progress { percent } => {
                self.progress = Some(percent.or(self.progress.flatten()));
                return true;
            }
            Verdict::NearlyReady => self.fill(stream, HintStrength::NearlyReady, line),
            Verdict::Ready => self.fill(stream, HintStrength::Ready, line),
            Verdict::Nothing | Verdict::Echo | Verdict::Failure { .. } => {}
        }
        self.slots.iter().any(Option::is_some)
    }

    fn fill(&mut self, stream: StreamName, strength: HintStrength, line: &[u8]) {
        let slot = usize::from(stream == StreamName::Stdout) + 2 * usize::from(strength == HintStrength::Ready);
        self.slots[slot].get_or_insert_with(|| printable(line));
    }

    fn take(&mut self) -> Taken {
        let mut hints = Vec::new();
        for (slot, line) in self.slots.iter_mut().enumerate() {
            let Some(line) = line.take() else { continue };
            let stream = if slot % 2 == 0 { StreamName::Stderr } else { StreamName::Stdout };
            let strength = if slot < 2 { HintStrength::NearlyReady } else { HintStrength::Ready };
            hints.push(ReadinessHint { stream, strength, line });
        }
        Taken { hints, progress: self.progress.take(), last_line: self.last_line.take() }
    }
}

/// Stands in while matchers are exchanged.
struct NullMatcher;

impl Matcher for NullMatcher {
    fn on_line(&mut self, _: StreamName, _: &[u8]) -> Verdict {
        Verdict::Nothing
    }
}

/// The last lines, one behind the other.
#[derive(Default)]
struct Tail {
    bytes: VecDeque<u8>,
    /// Of each line, the oldest first; 0 where there is none yet.
    lengths: [u16; TAIL_LINES],
}

impl Tail {
    fn push(&mut self, line: &[u8]) {
        // Empty lines between others tell nothing and would push out those that do.
        if line.is_empty() {
            return;
        }
        let line = &line[..line.len().min(LINE_LIMIT)];
        self.bytes.drain(..usize::from(self.lengths[0]));
        // Exactly, since a server that is ready may say nothing more for months.
        self.bytes.reserve_exact(line.len());
        self.bytes.extend(line);
        self.lengths.rotate_left(1);
        self.lengths[TAIL_LINES - 1] = line.len() as u16;
    }

    fn lines(&self) -> Vec<String> {
        let mut bytes = self.bytes.iter().copied();
        let lines = self.lengths.iter().map(|length| bytes.by_ref().take((*length).into()).collect::<Vec<u8>>());
        lines.filter(|line| !line.is_empty()).map(|line| printable(&line)).collect()
    }
}

/// At most [`LINE_LIMIT`] bytes of a line as text, without terminal control.
fn printable(line: &[u8]) -> String {
    let mut clean = Vec::with_capacity(line.len().min(LINE_LIMIT));
    strip_controls(&line[..line.len().min(LINE_LIMIT)], &mut clean);
    let mut text = String::from_utf8_lossy(&clean).into_owned();
    // Replacement characters are longer than the bytes that they stand for.
    while text.len() > LINE_LIMIT {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes each line for what its first word says.
    struct Words;

    impl Matcher for Words {
        fn on_line(&mut self, _: StreamName, line: &[u8]) -> Verdict {
            match line.split(|byte| *byte == b' ').next() {
                Some(b"ready") => Verdict::Ready,
                Some(b"nearly") => Verdict::NearlyReady,
                Some(b"echo") => Verdict::Echo,
                Some(b"load") => Verdict::Progress { percent: None },
                Some(b"oom") => Verdict::Failure { reason: FailureReason::OutOfMemory, rank: 1 },
                Some(b"bad") => Verdict::Failure { reason: FailureReason::ModelInvalid, rank: 9 },
                _ => Verdict::Nothing,
            }
        }
    }

    fn output() -> LaunchOutput {
        let mut output = LaunchOutput::new(Box::new(|| Box::new(NullMatcher)));
        output.set_matcher(Box::new(Words));
        output
    }

    #[tokio::test]
    async fn lines_that_came_before_the_matcher_are_read_in_order() {
        let mut output = LaunchOutput::new(Box::new(|| Box::new(NullMatcher)));
        for line in ["one", "ready 1", "oom 2"] {
            assert!(!output.on_line(StreamName::Stdout, line.as_bytes()));
        }
        assert!(output.take().hints.is_empty());
        assert!(output.set_matcher(Box::new(Words)));
        let hints = output.take().hints;
        assert_eq!(hints.len(), 1);
        assert_eq!(
            (hints[0].stream, hints[0].strength, &*hints[0].line),
            (StreamName::Stdout, HintStrength::Ready, "ready 1")
        );
        assert_eq!(output.last_lines(), ["one", "ready 1", "oom 2"]);
        assert_eq!(output.evidence().expect("evidence").line, "oom 2");
    }

    #[tokio::test]
    async fn too_many_early_lines_are_read_by_the_fallback_and_held_no_longer() {
        let mut output = LaunchOutput::new(Box::new(|| Box::new(Words)));
        assert!(!output.on_line(StreamName::Stderr, b"ready early"));
        let line = [b'x'; 1024];
        let mut pending = false;
        for _ in 0..=EARLY_LIMIT / line.len() {
            pending |= output.on_line(StreamName::Stderr, &line);
        }
        assert!(pending && matches!(output.matcher, MatcherState::Matching(_)));
        assert_eq!(output.take().hints[0].line, "ready early");
        // Empty lines cost room too.
        let mut output = LaunchOutput::new(Box::new(|| Box::new(Words)));
        for _ in 0..=EARLY_LIMIT / 16 {
            output.on_line(StreamName::Stderr, b"");
        }
        assert!(matches!(output.matcher, MatcherState::Matching(_)));
    }

    #[tokio::test]
    async fn a_hit_is_kept_until_it_is_taken_and_a_flood_keeps_one_of_each_kind() {
        let mut output = output();
        for number in 0..10_000 {
            output.on_line(StreamName::Stderr, format!("nearly {number}").as_bytes());
        }
        output.on_line(StreamName::Stderr, b"ready");
        let hints = output.take().hints;
        assert_eq!(hints.iter().map(|hint| &*hint.line).collect::<Vec<_>>(), ["nearly 0", "ready"]);
        assert!(output.take().hints.is_empty());
    }

    #[tokio::test]
    async fn an_echo_is_neither_life_nor_a_last_line() {
        let mut output = output();
        assert!(!output.on_line(StreamName::Stderr, b"echo 503"));
        assert_eq!(output.take().last_line, None);
        assert!(output.last_lines().is_empty());
        output.on_line(StreamName::Stderr, b"life");
        assert!(output.take().last_line.is_some());
    }

    #[tokio::test]
    async fn the_most_specific_line_is_the_evidence() {
        let mut output = output();
        for line in ["bad 1", "oom 2", "bad 3"] {
            output.on_line(StreamName::Stderr, line.as_bytes());
        }
        assert_eq!(output.evidence().map(|evidence| evidence.line).as_deref(), Some("oom 2"));
    }

    #[tokio::test]
    async fn after_the_verdict_only_recent_evidence_counts() {
        let mut output = output();
        output.on_line(StreamName::Stderr, b"oom before");
        output.on_verdict();
        assert_eq!(output.evidence(), None);
        assert!(!output.on_line(StreamName::Stderr, b"ready again"));
        output.on_line(StreamName::Stderr, b"oom survived");
        for _ in 0..TAIL_LINES {
            output.on_line(StreamName::Stderr, b"work");
        }
        assert_eq!(output.evidence(), None);
        output.on_line(StreamName::Stderr, b"oom last");
        assert_eq!(output.evidence().map(|evidence| evidence.line).as_deref(), Some("oom last"));
    }

    #[tokio::test]
    async fn the_last_lines_are_bounded_and_fit_to_be_read() {
        let mut output = output();
        for number in 0..30 {
            output.on_line(StreamName::Stderr, format!("\x1b[31mline {number}\x1b[0m\0\r").as_bytes());
        }
        output.on_line(StreamName::Stdout, &[0xff; 64 * 1024]);
        let lines = output.last_lines();
        assert_eq!(lines.len(), TAIL_LINES);
        assert_eq!(lines[0], "line 19");
        assert!(lines.iter().all(|line| line.len() <= LINE_LIMIT));
    }
}
