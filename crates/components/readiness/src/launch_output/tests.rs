//! What the output of a launch keeps, and what no line of it changes.

use llama_warden_detectors::PackSet;
use llama_warden_plugin_files::PluginFile as _;

use super::*;
use crate::failure::ReadinessFailure;

const NOW: Uptime = Uptime::new(std::time::Duration::from_secs(9));

/// Judges each line by its first word.
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
    let mut output = LaunchOutput::new(Box::new(|| Box::new(PatternMatcher::empty())), LaunchRequests::of_test());
    output.set_matcher(Box::new(Words));
    output
}

#[tokio::test]
async fn lines_that_came_before_the_matcher_are_read_in_order() {
    let mut output = LaunchOutput::new(Box::new(|| Box::new(PatternMatcher::empty())), LaunchRequests::of_test());
    for line in ["one", "ready 1", "oom 2"] {
        assert!(!output.on_line(StreamName::Stdout, line.as_bytes()));
    }
    assert!(output.take_summary(NOW).hints.is_empty());
    assert!(output.set_matcher(Box::new(Words)));
    let hints = output.take_summary(NOW).hints;
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
    let mut output = LaunchOutput::new(Box::new(|| Box::new(Words)), LaunchRequests::of_test());
    assert!(!output.on_line(StreamName::Stderr, b"ready early"));
    let line = [b'x'; 1024];
    let mut pending = false;
    for _ in 0..=EARLY_LIMIT / line.len() {
        pending |= output.on_line(StreamName::Stderr, &line);
    }
    assert!(pending && matches!(output.matcher, MatcherState::Matching(_)));
    assert_eq!(output.take_summary(NOW).hints[0].line, "ready early");
    // Empty lines cost room too.
    let mut output = LaunchOutput::new(Box::new(|| Box::new(Words)), LaunchRequests::of_test());
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
    let hints = output.take_summary(NOW).hints;
    assert_eq!(hints.iter().map(|hint| &*hint.line).collect::<Vec<_>>(), ["nearly 0", "ready"]);
    assert!(output.take_summary(NOW).hints.is_empty());
}

#[tokio::test]
async fn an_echo_is_neither_life_nor_a_last_line() {
    let mut output = output();
    assert!(!output.on_line(StreamName::Stderr, b"echo 503"));
    assert_eq!(output.take_summary(NOW).last_line, None);
    assert!(output.last_lines().is_empty());
    output.on_line(StreamName::Stderr, b"life");
    assert!(output.take_summary(NOW).last_line.is_some());
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

/// What a client of real builds can have them print: a grammar that does not parse and a decoded path appear line by line, as
/// they came. Each line is tried bare and with what builds put before their own.
fn forged_lines(packs: &PackSet) -> Vec<Vec<u8>> {
    let examples = packs.iter().flat_map(|pack| pack.examples().iter().map(|example| example.line.clone()));
    let prefixes = ["", "E ", "0.01.212.516 E ", "[8081] "];
    examples.flat_map(|line| prefixes.map(|prefix| format!("{prefix}{line}").into_bytes())).collect()
}

#[tokio::test]
async fn after_ready_no_line_of_a_client_changes_what_is_known_of_a_server() {
    let packs = PackSet::built_in();
    let lines = forged_lines(&packs);
    for (pack, line, stream) in packs
        .iter()
        .flat_map(|pack| lines.iter().flat_map(move |line| StreamName::ALL.map(|stream| (pack, line, stream))))
    {
        let mut output = LaunchOutput::new(Box::new(|| Box::new(PatternMatcher::empty())), LaunchRequests::of_test());
        output.set_matcher(Box::new(pack.matcher(None)));
        output.on_verdict();
        let text = String::from_utf8_lossy(line);
        assert!(!output.on_line(stream, line), "{}: {text}", pack.name());
        let OutputSummary { hints, progress, has_model, last_line } = output.take_summary(NOW);
        assert!(hints.is_empty() && progress.is_none() && !has_model && last_line.is_none(), "{text}");
        for end in [ProcessEnd::Exited { code: 0 }, ProcessEnd::Exited { code: 1 }] {
            let failure = ReadinessFailure::at_exit_after_ready(end, output.evidence_for(end));
            let is_told_alone =
                matches!(failure.reason, FailureReason::Crashed | FailureReason::Ended | FailureReason::OutOfMemory);
            assert!(is_told_alone, "{}: {text} gave {failure:?}", pack.name());
        }
    }
}
