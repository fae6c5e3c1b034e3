//! Packs learned from recorded starts, compared with those that people wrote.

use std::path::PathBuf;
use std::time::Duration;

use llama_warden_events::{FailureReason, StreamName};
use llama_warden_plugin_files::PluginFile as _;
use serde_json::Value;

use super::*;

use crate::GENERIC;

const BUILDS: [(&str, Option<u64>); 4] = [
    ("2024-07-py0.2.80", Some(1)),
    ("2024-11-py0.3.2", Some(1)),
    ("2025-08-py0.3.16", Some(1)),
    ("b11669-debian", Some(11_669)),
];

fn folder(build: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/transcripts").join(build)
}

/// Reads a transcript as a recording. `ready` is zero if the server was never asked or never ready.
fn recording(path: &Path) -> Recording {
    let text = std::fs::read_to_string(path).expect("a transcript");
    let mut recording = Recording { port: 0, lines: Vec::new(), ready: Duration::ZERO };
    for record in text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")) {
        let at = Duration::from_micros(record["t_us"].as_u64().expect("a time"));
        let stream = match record["stream"].as_str().expect("a stream") {
            "stderr" => StreamName::Stderr,
            "stdout" => StreamName::Stdout,
            "meta" => {
                recording.port = record["data"]["port"].as_u64().expect("a port").try_into().expect("in range");
                continue;
            }
            "health" if record["data"]["status"] == 200 && recording.ready.is_zero() => {
                recording.ready = at;
                continue;
            }
            // Lines after the stop are not part of the start.
            "signal" => break,
            _ => continue,
        };
        let line = record["data"].as_str().expect("a line").as_bytes().to_vec();
        recording.lines.push(RecordedLine { at, stream, line });
    }
    recording
}

fn subject(build: &str, number: Option<u64>) -> LearnSubject {
    let help = std::fs::read_to_string(folder(build).join("help.txt")).expect("a help");
    let words = help.split(|c: char| c.is_whitespace() || ",|[]".contains(c));
    LearnSubject {
        name: "learnt".into(),
        build: number,
        options: words.filter_map(|word| word.strip_prefix("--")).map(str::to_owned).collect(),
        model: "/models/tiny.gguf".into(),
        host: "127.0.0.1".into(),
        health: HealthPath::Answers,
    }
}

fn learned_pack(build: &str, number: Option<u64>) -> Pack {
    let starts = ["ready-default", "ready-slow", "shutdown-term-idle"];
    let recordings: Vec<_> =
        starts.iter().map(|start| recording(&folder(build).join(format!("{start}.jsonl")))).collect();
    assert!(recordings.iter().all(|recording| !recording.ready.is_zero()), "{build}");
    learn(&subject(build, number), &recordings, &PackSet::built_in()).expect(build).pack
}

/// The verdicts of a pack on a whole run: when it is ready, and the reason if it failed.
fn judge(pack: &Pack, recording: &Recording) -> (Option<Duration>, Option<FailureReason>) {
    let mut matcher = pack.matcher(Some(recording.port));
    let (mut ready, mut failure) = (None, None);
    for line in &recording.lines {
        match matcher.on_line(line.stream, &line.line) {
            Verdict::Ready => ready = ready.or(Some(line.at)),
            Verdict::Failure { reason, rank } if failure.is_none_or(|(best, _)| rank < best) => {
                failure = Some((rank, reason));
            }
            _ => {}
        }
    }
    (ready, failure.map(|(_, reason)| reason))
}

#[test]
fn a_learnt_pack_says_of_every_transcript_what_the_shipped_one_says() {
    let packs = PackSet::built_in();
    for (build, number) in BUILDS {
        let pack = learned_pack(build, number);
        let shipped = packs.choose(number, &subject(build, number).options, None).expect("a pack").file;
        assert_ne!(shipped.name(), GENERIC);
        let mut compared = 0;
        for entry in std::fs::read_dir(folder(build)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            // A file that is missing leaves one line in mid 2024, which means something else to every other era. It is found
            // missing before a launch anyhow.
            let is_of_that_era =
                build == "2024-07-py0.2.80" && ["fail-missing.jsonl", "fail-nomodel.jsonl"].contains(&&*name);
            if !name.ends_with(".jsonl") || is_of_that_era {
                continue;
            }
            let recording = recording(&path);
            assert_eq!(judge(&pack, &recording), judge(&shipped, &recording), "{build} {name}\n{}", pack.text());
            compared += 1;
        }
        assert!(compared >= 30, "{build}");
    }
}

#[test]
fn phrases_that_come_early_become_examples_of_what_is_none() {
    for build in ["2024-11-py0.3.2", "2025-08-py0.3.16"] {
        let pack = learned_pack(build, Some(1));
        let early = pack.examples().iter().find(|example| example.line.contains("HTTP server is listening"));
        assert_eq!(early.map(|example| example.verdict), Some(crate::ExampleVerdict::None), "{build}\n{}", pack.text());
    }
}

#[test]
fn a_learnt_pack_is_chosen_for_its_build_and_no_other() {
    let packs = PackSet::built_in();
    for (build, number) in BUILDS {
        let pack = learned_pack(build, number);
        let packs: Vec<_> = std::iter::once(pack).chain(packs.iter().cloned()).collect();
        for (other, other_number) in BUILDS {
            let choice =
                llama_warden_plugin_files::choose(&packs, other_number, &subject(other, other_number).options, None);
            let of_one_era = |build: &str| build.starts_with("2024-11") || build.starts_with("2025-08");
            let is_same_era = of_one_era(build) && of_one_era(other);
            if build == other {
                assert_eq!(choice.expect("a pack").file.name(), "learnt", "{build}");
            } else if !is_same_era {
                assert_ne!(choice.expect("a pack").file.name(), "learnt", "{build} for {other}");
            }
        }
    }
}

#[test]
fn a_learnt_pack_reads_its_build_and_later_ones_and_no_earlier_one() {
    let (build, number) = ("b11669-debian", 11_669);
    let pack = learned_pack(build, Some(number));
    assert!(pack.text().contains("\nbuilds = { min = 11669 }\n"), "{}", pack.text());
    let packs: Vec<_> = std::iter::once(pack).chain(PackSet::built_in().iter().cloned()).collect();
    for (other, is_learnt) in [(number - 1, false), (number, true), (number + 1, true), (20_000, true)] {
        let choice = llama_warden_plugin_files::choose(&packs, Some(other), &subject(build, None).options, None);
        assert_eq!(choice.expect("a pack").file.name() == "learnt", is_learnt, "{other}");
    }
}

fn made_up(start: u16, lines: &[(u64, &str)]) -> Recording {
    let line = |(at, line): &(u64, &str)| RecordedLine {
        at: Duration::from_millis(*at),
        stream: StreamName::Stdout,
        line: line.replace("PORT", &(9000 + start).to_string()).into_bytes(),
    };
    Recording { port: 9000 + start, lines: lines.iter().map(line).collect(), ready: Duration::from_millis(500) }
}

fn learn_made_up(starts: &[&[(u64, &str)]]) -> Result<LearnedPack, LearnError> {
    let recordings: Vec<_> = starts.iter().zip(1..).map(|(lines, start)| made_up(start, lines)).collect();
    learn(&subject("b11669-debian", None), &recordings, &PackSet::built_in())
}

#[test]
fn the_line_that_names_the_port_is_taken_before_others() {
    let lines: &[(u64, &str)] =
        &[(1, "ready soon on PORT"), (498, "goose is up"), (501, "humming at PORT"), (502, "ready to chat")];
    let learned = learn_made_up(&[lines, lines]).expect("learns");
    let ready: Vec<_> = learned.pack.patterns().iter().map(|pattern| &*pattern.regex).collect();
    assert_eq!(ready, [r"^humming at (?P<port>\d+)$"], "{}", learned.pack.text());
    assert_eq!(learned.early, 1);
}

#[test]
fn a_line_that_was_early_once_is_never_a_ready_line() {
    let good: &[(u64, &str)] = &[(500, "ready on PORT")];
    let bad: &[(u64, &str)] = &[(20, "ready on PORT")];
    assert_eq!(learn_made_up(&[good, bad]).map(|_| ()), Err(LearnError::NoReadyLine { lines: 1 }));
    let missing: &[(u64, &str)] = &[(10, "hello")];
    assert_eq!(learn_made_up(&[good, missing]).map(|_| ()), Err(LearnError::NoReadyLine { lines: 1 }));
    assert!(learn_made_up(&[good, good]).is_ok());
    assert_eq!(learn_made_up(&[]).map(|_| ()), Err(LearnError::NoRecording));
}
