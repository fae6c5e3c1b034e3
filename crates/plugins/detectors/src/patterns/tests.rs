//! Compares every verdict with that of each pattern alone, in order, on every line.

use std::path::PathBuf;

use proptest::prelude::*;
use regex::bytes::Regex;

use super::compile::build;
use super::*;
use crate::PackSet;

/// Patterns of all shapes that a user's pack may have.
const SHAPES: [&str; 30] = [
    "",
    "^",
    "$",
    "a*",
    "^a*",
    "^(?:a|b|)c",
    "^[ab]*a[ab]{9}$",
    "^x|y",
    "(?m)^a$",
    r"^\.+$",
    r"^\.+(?:$|(?:srv +)?GET )",
    r"^(?:[a-z]+ +)?\w+: (?:error: )?failed",
    r"^\w+: (?:\w+: )*(?:failed to allocate|unable)",
    "^load_tensors: ",
    "(?i)^ERROR: ",
    "^(?i:error): (?P<port>[0-9]+)?",
    r"\bload\b",
    r"\Bing\b",
    "(?i)listening on",
    "(?i)(?:http server listening|server is listening|listening on|server started)",
    "server (?:is|was) listening",
    "(?:server started)+ *on",
    "(?i:http) server [lm]istening",
    "listening(?: on)?$",
    "(?s).*listening.*on",
    "[^ -~]",
    "(?u:é) server started",
    "(?iu:server started)",
    "(?i)started|server is listening|failed to allocate|error loading",
    "(?P<percent>[0-9]+) ?%",
];

/// The pieces of generated lines.
const PIECES: [&str; 24] = [
    "a",
    "b",
    "c",
    "x",
    "y",
    ".",
    " ",
    ": ",
    "é",
    "\n",
    "\0",
    "7 %",
    "80",
    "error",
    "ERROR",
    "load_tensors",
    "failed",
    " to allocate",
    "HTTP ",
    "server is ",
    "Listening",
    "LISTENING ON",
    " on",
    "Server Started",
];

/// A line of the server itself, on port 80.
const ORIGIN: LineOrigin = LineOrigin { ours: Some(80), child: None, is_bare: false, is_announced: false };

fn patterns(shapes: &[&str]) -> Vec<DetectorPattern> {
    let verdicts =
        [PatternVerdict::Ready, PatternVerdict::Progress, PatternVerdict::Failure, PatternVerdict::NearlyReady];
    let streams = [StreamFilter::Any, StreamFilter::Stderr, StreamFilter::Stdout];
    let pattern = |(place, shape): (usize, &&str)| DetectorPattern {
        verdict: verdicts[place % verdicts.len()],
        stream: streams[place % streams.len()],
        regex: (*shape).into(),
        reason: Some(FailureReason::Unknown),
        weak: false,
        loads: false,
        prefixed: false,
        announced: false,
    };
    shapes.iter().enumerate().map(pattern).collect()
}

/// Each pattern that a stream admits, alone.
fn plain(patterns: &[DetectorPattern], stream: StreamName) -> Vec<(Regex, VerdictRule)> {
    let admitted = patterns.iter().enumerate().filter(|(_, pattern)| pattern.stream.admits(stream));
    admitted.map(|(place, pattern)| (build(&pattern.regex).expect("valid"), VerdictRule::new(place, pattern))).collect()
}

fn judge_plainly(plain: &[(Regex, VerdictRule)], line: &[u8]) -> Option<Verdict> {
    plain.iter().filter(|(regex, _)| regex.is_match(line)).find_map(|(_, judge)| judge.verdict(line, ORIGIN))
}

/// Asserts the same verdicts with the automaton (until it thrashes its cache), without it, and from each pattern alone.
fn assert_same(patterns: &[DetectorPattern], stream: StreamName, lines: &[impl AsRef<[u8]>]) {
    let compiled = CompiledPatterns::checked(patterns).expect("valid");
    let fast = compiled.get(stream);
    let plain = plain(patterns, stream);
    let mut lazy_dfa = LazyDfa::Enabled;
    for (number, line) in lines.iter().map(AsRef::as_ref).enumerate() {
        let expected = judge_plainly(&plain, line);
        let text = String::from_utf8_lossy(line);
        if number % 1024 == 0 {
            compiled.clear_cache();
        }
        assert_eq!(fast.match_line(&mut lazy_dfa, line, ORIGIN), expected, "{text:?}");
        assert_eq!(fast.match_line(&mut LazyDfa::Disabled, line, ORIGIN), expected, "{text:?}, without");
    }
}

fn recorded_lines() -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/transcripts");
    let entries =
        |folder: PathBuf| std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one").path());
    let files = entries(folder).flat_map(entries).filter(|path| path.extension().is_some_and(|kind| kind == "jsonl"));
    let records = files.flat_map(|path| {
        let text = std::fs::read_to_string(path).expect("a transcript");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<serde_json::Value>>()
    });
    records.filter_map(|record| Some(record["data"].as_str()?.as_bytes().to_vec())).collect()
}

#[test]
fn recorded_lines_get_the_verdict_of_the_plain_patterns_from_every_pack() {
    let clean = |line: &Vec<u8>| LineCleaner::default().clean(line).text.into_owned();
    let mut lines: Vec<_> = recorded_lines().iter().map(clean).collect();
    assert!(lines.len() > 5000, "only {} lines", lines.len());
    lines.sort();
    lines.dedup();
    let packs = PackSet::built_in();
    let generic = packs.get(crate::GENERIC).expect("there");
    for pack in packs.iter() {
        // A pack has only the shared patterns of the generic one. The test appends all of them.
        let patterns = [pack.patterns(), generic.patterns()].concat();
        for stream in StreamName::ALL {
            assert_same(&patterns, stream, &lines);
        }
    }
}

proptest! {
    #[test]
    fn any_line_gets_the_verdict_of_the_plain_patterns(
        shapes in prop::collection::vec(prop::sample::select(&SHAPES[..]), 1..6),
        lines in prop::collection::vec(prop::collection::vec(prop::sample::select(&PIECES[..]), 0..12), 1..20),
    ) {
        let lines: Vec<_> = lines.iter().map(|pieces| pieces.concat()).collect();
        for stream in StreamName::ALL {
            assert_same(&patterns(&shapes), stream, &lines);
        }
    }

    #[test]
    fn a_phrase_is_never_missed_wherever_it_stands(
        before in prop::collection::vec(any::<u8>(), 0..40),
        phrase in prop::sample::select(vec!["http SERVER listening", "Server Is Listening", "listening ON", "SERVER started"]),
        after in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let prefilter = Prefilter::new(&[SHAPES[19]]).expect("phrases");
        prop_assert!(prefilter.may_match(&[&before, phrase.as_bytes(), &after].concat()));
    }
}

#[test]
fn most_lines_without_a_phrase_are_spared_its_pattern() {
    let prefilter = Prefilter::new(&[SHAPES[19]]).expect("phrases");
    let lines = recorded_lines();
    let spared = lines.iter().filter(|line| !prefilter.may_match(line)).count();
    assert!(spared * 100 > lines.len() * 90, "{spared} of {}", lines.len());
    assert!(!prefilter.may_match(b""));
}

#[test]
fn what_has_no_long_text_in_each_match_is_always_looked_for() {
    for shapes in [&[][..], &["^a|listening on"], &["[0-9]+ %"], &["(?:listening on)*"], &["a", "listening on"]] {
        assert!(Prefilter::new(shapes).is_none(), "{shapes:?}");
    }
    // A letter that is not ASCII may be the capital of one that is.
    assert!(Prefilter::new(&["(?iu:server started)"]).is_none());
    assert!(Prefilter::new(&["first phrase", "second phrase", "a third phrase"]).is_none(), "too many");
}

#[test]
fn lines_that_thrash_the_automaton_still_get_their_verdict() {
    let thrashing = patterns(&["^[ab]*a[ab]{16}$", "^[ab]*b[ab]{15}a$", "^[ab]+$"]);
    let mut seed = 1_u64;
    let mut line = |length: usize| {
        let letter = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if seed >> 63 == 0 { b'a' } else { b'b' }
        };
        std::iter::repeat_with(letter).take(length).collect::<Vec<u8>>()
    };
    // Whether a short line matches depends on where its walk begins.
    let lines: Vec<_> = (0..2000).flat_map(|number| [line(64), line(number % 16)]).collect();
    assert_same(&thrashing, StreamName::Stderr, &lines);
    let automaton = Automaton::new(&regexes(&thrashing.iter().enumerate().collect::<Vec<_>>())).expect("small enough");
    let mut dfa_cache = None;
    let gave_up = lines.iter().any(|line| automaton.find(&mut dfa_cache, line).is_err());
    assert!(gave_up, "the lines do thrash it");
}
