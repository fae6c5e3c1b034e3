//! Recorded requests in, counts out: what the lines of real builds say, against what the same builds answered.
//!
//! A recording has the lines that a build wrote after it was ready, and the `timings` of each answer. Among the requests are
//! streams, a cached prompt, four at once on two slots, a refused one, and a client that left.

#![expect(clippy::expect_used, reason = "a panic is how a test fails")]

use std::path::Path;

use llama_warden_detectors::{GENERIC, Matcher, PackSet, Verdict};
use llama_warden_events::{StreamName, Timestamp};
use llama_warden_requests::{RequestLine, RequestRecord};
use serde_json::Value;

/// Build, recording, and its pack.
const RECORDINGS: [(&str, &str, &str); 8] = [
    ("2024-11-py0.3.2", "plain", "llama-server-2024-08"),
    ("2024-11-py0.3.2", "prefix", "llama-server-2024-08"),
    ("2025-08-py0.3.16", "plain", "llama-server-2024-08"),
    ("2025-08-py0.3.16", "prefix", "llama-server-2024-08"),
    ("b11669-debian", "plain", "llama-server-b11xxx"),
    ("b11669-debian", "colours", "llama-server-b11xxx"),
    ("b11669-debian", "jsonl", "llama-server-b11xxx"),
    ("b11669-debian", "level-alone", "llama-server-b11xxx"),
];

fn recording(build: &str, name: &str) -> Vec<Value> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/requests");
    let text = std::fs::read_to_string(fixtures.join(build).join(name).with_extension("jsonl")).expect("a recording");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What the lines of a recording say about requests. Before them comes the ready line of its build, from which the matcher
/// knows whether lines have prefixes.
fn request_lines(pack: &str, records: &[Value], ready_line: &str) -> Vec<RequestLine> {
    let mut matcher = PackSet::built_in().get(pack).expect("built in").matcher(None);
    matcher.on_line(StreamName::Stderr, ready_line.as_bytes());
    let verdict = |record: &Value| {
        let stream = StreamName::ALL.into_iter().find(|stream| record["stream"] == stream.as_str())?;
        Some(matcher.on_line(stream, record["data"].as_str().expect("a line").as_bytes()))
    };
    let lines = records.iter().filter_map(verdict);
    lines.filter_map(|verdict| if let Verdict::Request(line) = verdict { Some(line) } else { None }).collect()
}

fn counted(lines: &[RequestLine]) -> RequestRecord {
    let mut record = RequestRecord::default();
    lines.iter().for_each(|line| record.note(*line, Timestamp::from_unix_microseconds(1)));
    record
}

#[test]
fn what_was_printed_is_what_was_answered() {
    for (build, name, pack) in RECORDINGS {
        let records = recording(build, name);
        let answers: Vec<&Value> =
            records.iter().filter(|record| record["stream"] == "answer").map(|record| &record["data"]).collect();
        let sum = |key: &str| answers.iter().map(|answer| answer[key].as_f64().expect("a number")).sum::<f64>();
        assert!(answers.len() >= 8, "{build} {name}");
        // The generic pack, too, knows these lines.
        for pack in [pack, GENERIC] {
            let record = counted(&request_lines(pack, &records, ""));
            let place = format!("{build} {name} {pack}");
            assert_eq!(record.requests(), answers.len() as u64, "{place}");
            assert_eq!(record.prompt_tokens() as f64, sum("prompt_n"), "{place}");
            assert_eq!(record.decode_tokens() as f64, sum("predicted_n"), "{place}");
            // Lines have two decimals.
            let rounding = 0.005e-3 * answers.len() as f64 + 1e-9;
            for (seconds, key) in
                [(record.prompt_seconds().sum(), "prompt_ms"), (record.decode_seconds().sum(), "predicted_ms")]
            {
                assert!((seconds - sum(key) / 1e3).abs() <= rounding, "{place} {key}: {seconds}");
            }
            assert_eq!(record.busy_slots(), 0, "{place}: the client that left, too, frees its slot");
        }
    }
}

#[test]
fn each_of_four_requests_at_once_was_seen_on_its_slot() {
    for (build, name, pack) in RECORDINGS {
        let mut record = RequestRecord::default();
        let mut most = 0;
        for line in request_lines(pack, &recording(build, name), "") {
            record.note(line, Timestamp::from_unix_microseconds(1));
            most = most.max(record.busy_slots());
        }
        assert_eq!(most, 2, "{build} {name}");
    }
}

/// A grammar that does not parse is printed as it came, line by line, and one of these builds prints paths decoded.
#[test]
fn lines_that_a_client_forged_are_refused_where_they_can_be_told_apart() {
    let forged = |build, pack, ready_line: &str| counted(&request_lines(pack, &recording(build, "forged"), ready_line));
    let newest = forged(
        "b11669-debian",
        "llama-server-b11xxx",
        "0.00.022.002 I srv  llama_server: listening on http://127.0.0.1:1",
    );
    assert_eq!((newest.requests(), newest.prompt_tokens(), newest.busy_slots()), (0, 0, 0));
    // Builds that put nothing before their lines: a timing needs its announcement, and a slot does not.
    for (build, requests) in [("2024-11-py0.3.2", 1), ("2025-08-py0.3.16", 0)] {
        let record = forged(build, "llama-server-2024-08", "main: server is listening on http://127.0.0.1:1");
        assert_eq!((record.requests(), record.busy_slots()), (requests, 1), "{build}");
    }
}

#[test]
fn a_build_that_was_told_to_be_silent_says_nothing_about_requests() {
    let records = recording("b11669-debian", "quiet");
    assert!(records.iter().all(|record| record["stream"] == "answer") && records.len() == 8);
}
