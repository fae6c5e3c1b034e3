//! Recorded output in, verdict out: every built-in pack against what real builds wrote.

#![expect(clippy::expect_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};

use llama_warden_detectors::{GENERIC, Matcher, Pack, PackSet, Verdict};
use llama_warden_events::{FailureReason, StreamName};
use llama_warden_plugin_files::PluginFile as _;
use serde_json::Value;

/// Build folder, the build number that it reports, and the pack that has to be chosen for it.
const BUILDS: [(&str, u64, &str); 4] = [
    ("2024-07-py0.2.80", 1, "llama-server-2024-02"),
    ("2024-11-py0.3.2", 1, "llama-server-2024-08"),
    ("2025-08-py0.3.16", 1, "llama-server-2024-08"),
    ("b11669-debian", 11_669, "llama-server-b11xxx"),
];

/// Output of one recorded run.
struct Transcript {
    name: String,
    port: u16,
    /// Microseconds, stream and bytes.
    lines: Vec<(u64, StreamName, Vec<u8>)>,
    /// When a probe was first answered with 200.
    healthy: Option<u64>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/transcripts")
}

fn transcript(path: &Path) -> Transcript {
    let text = std::fs::read_to_string(path).expect("a transcript");
    let mut transcript = Transcript {
        name: path.file_stem().expect("a name").to_string_lossy().into_owned(),
        port: 0,
        lines: Vec::new(),
        healthy: None,
    };
    for record in text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")) {
        let at = record["t_us"].as_u64().expect("a time");
        let line = || record["data"].as_str().expect("a line").as_bytes().to_vec();
        match record["stream"].as_str().expect("a stream") {
            "meta" => transcript.port = record["data"]["port"].as_u64().expect("a port").try_into().expect("in range"),
            "stderr" => transcript.lines.push((at, StreamName::Stderr, line())),
            "stdout" => transcript.lines.push((at, StreamName::Stdout, line())),
            "health" if record["data"]["status"] == 200 => transcript.healthy = transcript.healthy.or(Some(at)),
            _ => {}
        }
    }
    transcript
}

fn transcripts(build: &str, prefixes: &[&str]) -> Vec<Transcript> {
    let mut paths: Vec<_> = std::fs::read_dir(fixtures().join(build))
        .expect("a folder of fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .filter(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            prefixes.iter().any(|prefix| name.starts_with(prefix))
        })
        .collect();
    paths.sort();
    paths.iter().map(|path| transcript(path)).collect()
}

/// The long options that a help lists, without dashes.
fn options(build: &str) -> Vec<String> {
    let help = std::fs::read_to_string(fixtures().join(build).join("help.txt")).expect("a help");
    help.split(|character: char| character.is_whitespace() || ",|[]".contains(character))
        .filter_map(|word| word.strip_prefix("--"))
        .map(|option| option.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect())
        .collect()
}

fn pack_for(packs: &PackSet, build: &str) -> Pack {
    let number = BUILDS.iter().find(|(name, ..)| *name == build).expect("a known build").1;
    packs.choose(Some(number), &options(build), None).expect("a pack").file
}

/// Every verdict but `Nothing` on a transcript.
fn verdicts(pack: &Pack, transcript: &Transcript) -> Vec<(u64, StreamName, Verdict)> {
    let mut matcher = pack.matcher(Some(transcript.port));
    transcript
        .lines
        .iter()
        .map(|(at, stream, line)| (*at, *stream, matcher.on_line(*stream, line)))
        .filter(|(.., verdict)| *verdict != Verdict::Nothing)
        .collect()
}

fn first_ready(pack: &Pack, transcript: &Transcript) -> Option<u64> {
    verdicts(pack, transcript).into_iter().find(|(.., verdict)| *verdict == Verdict::Ready).map(|(at, ..)| at)
}

/// The reason of the most specific failure line, the first of them.
fn failure(pack: &Pack, transcript: &Transcript) -> Option<FailureReason> {
    let failures = verdicts(pack, transcript).into_iter().filter_map(|(.., verdict)| match verdict {
        Verdict::Failure { reason, rank } => Some((rank, reason)),
        _ => None,
    });
    failures.min_by_key(|(rank, _)| *rank).map(|(_, reason)| reason)
}

#[test]
fn every_recorded_build_gets_the_pack_of_its_era() {
    let packs = PackSet::built_in();
    for (build, number, expected) in BUILDS {
        let choice = packs.choose(Some(number), &options(build), None).expect("a pack");
        assert_eq!(choice.file.name(), expected, "{build}: {}", choice.because);
    }
}

#[test]
fn a_ready_line_is_never_early_and_never_missed_where_one_was_written() {
    // Under load, the answer to a probe was seen up to 62 ms after the line; the early phrases of a model that takes
    // seconds to load come seconds before.
    const BEFORE_US: u64 = 100_000;
    let packs = PackSet::built_in();
    let mut seen = 0;
    for (build, ..) in BUILDS {
        let pack = pack_for(&packs, build);
        for transcript in transcripts(build, &["ready-", "seed-flags", "trap-", "shutdown-term-", "x-"]) {
            let said = transcript.lines.iter().any(|(_, _, line)| {
                let line = String::from_utf8_lossy(line);
                let port = transcript.port;
                line.contains(&format!("listening on http://127.0.0.1:{port}"))
                    || line.contains("] HTTP server listening |")
            });
            let ready = first_ready(&pack, &transcript);
            assert_eq!(ready.is_some(), said, "{build} {}: {ready:?}", transcript.name);
            if let (Some(ready), Some(healthy)) = (ready, transcript.healthy) {
                assert!(ready + BEFORE_US >= healthy, "{build} {}: {ready} before {healthy}", transcript.name);
            }
            seen += usize::from(said);
        }
    }
    assert!(seen >= 30, "only {seen} transcripts with a ready line");
}

#[test]
fn a_server_that_fails_never_says_ready() {
    let packs = PackSet::built_in();
    for (build, ..) in BUILDS {
        let pack = pack_for(&packs, build);
        for transcript in transcripts(build, &["fail-", "shutdown-term-loading"]) {
            // These did start: version 99 is read by early builds, and two early servers can share a port.
            let starts = transcript.healthy.is_some() || transcript.name == "fail-portbusy-self";
            if !starts {
                assert_eq!(first_ready(&pack, &transcript), None, "{build} {}", transcript.name);
            }
        }
    }
}

#[test]
fn every_recorded_failure_has_its_reason() {
    use FailureReason::{BadArgument, IdentityMismatch, ModelInvalid, ModelNotFound, OutOfMemory, PortInUse};

    let packs = PackSet::built_in();
    let mut judged = 0;
    for (build, ..) in BUILDS {
        let pack = pack_for(&packs, build);
        let old = build != "b11669-debian";
        for transcript in transcripts(build, &["fail-"]) {
            let expected = match transcript.name.strip_prefix("fail-").expect("a prefix") {
                // The host is not an address of this machine; the line is the same as for a port that is in use.
                "badhost" | "portbusy" => Some(PortInUse),
                "portbusy-self" => (!old).then_some(PortInUse),
                "badvalue" | "novalue" | "unknownflag" => Some(BadArgument),
                "badversion" => (!matches!(build, "2024-07-py0.2.80" | "2024-11-py0.3.2")).then_some(ModelInvalid),
                "dir" | "empty" | "magic" | "text" | "truncated" | "truncated-header" => Some(ModelInvalid),
                "missing" => Some(ModelNotFound),
                // Without a model, builds until 2025 look for a default one, and later ones become a router.
                "nomodel" => Some(if old { ModelNotFound } else { IdentityMismatch }),
                "bigmem" | "hugectx" | "kvalloc" => Some(OutOfMemory),
                other => panic!("no expectation for fail-{other}"),
            };
            assert_eq!(failure(&pack, &transcript), expected, "{build} {}", transcript.name);
            judged += 1;
        }
    }
    assert_eq!(judged, 4 * 18);
}

#[test]
fn seed_flags_fail_by_a_bad_argument_or_become_ready() {
    let packs = PackSet::built_in();
    for (build, ..) in BUILDS {
        let pack = pack_for(&packs, build);
        for transcript in transcripts(build, &["seed-flags"]) {
            let expected = transcript.healthy.is_none().then_some(FailureReason::BadArgument);
            assert_eq!(failure(&pack, &transcript), expected, "{build} {}", transcript.name);
        }
    }
}

#[test]
fn a_server_that_becomes_ready_gives_no_evidence_of_failure() {
    let packs = PackSet::built_in();
    for (build, ..) in BUILDS {
        let pack = pack_for(&packs, build);
        for transcript in transcripts(build, &["ready-", "trap-", "shutdown-term-", "x-"]) {
            assert_eq!(failure(&pack, &transcript), None, "{build} {}", transcript.name);
        }
    }
}

/// Fault C55.
#[test]
fn spoofed_phrases_are_no_ready_lines_whatever_their_port() {
    let packs = PackSet::built_in();
    for (build, ..) in BUILDS {
        let pack = pack_for(&packs, build);
        for transcript in transcripts(build, &["trap-"]) {
            let ready = verdicts(&pack, &transcript).into_iter().filter(|(.., verdict)| *verdict == Verdict::Ready);
            assert_eq!(ready.count(), 1, "{build} {}: only the server's own line", transcript.name);
            // Even when the spoofed port is ours, the line's beginning is not a server's.
            let mut matcher = pack.matcher(Some(8080));
            for (_, stream, line) in &transcript.lines {
                assert_ne!(matcher.on_line(*stream, line), Verdict::Ready, "{}", String::from_utf8_lossy(line));
            }
        }
    }
}

#[test]
fn the_generic_pack_hints_and_never_proves() {
    let packs = PackSet::built_in();
    let generic = packs.get(GENERIC).expect("there");
    for (build, ..) in BUILDS {
        for transcript in transcripts(build, &[""]) {
            assert_eq!(first_ready(generic, &transcript), None, "{build} {}", transcript.name);
        }
        for transcript in transcripts(build, &["ready-"]) {
            let hinted = verdicts(generic, &transcript).iter().any(|(.., verdict)| *verdict == Verdict::NearlyReady);
            assert!(hinted, "{build} {}", transcript.name);
        }
    }
}

#[test]
fn our_own_requests_in_the_log_are_no_sign_of_life() {
    let packs = PackSet::built_in();
    for (build, ..) in BUILDS {
        let pack = pack_for(&packs, build);
        for transcript in transcripts(build, &[""]) {
            let mut matcher = pack.matcher(Some(transcript.port));
            for (_, stream, line) in &transcript.lines {
                let text = String::from_utf8_lossy(line);
                // A dot of progress before it is a sign of life.
                if text.starts_with('.') {
                    assert!(matches!(matcher.on_line(*stream, line), Verdict::Loading { .. }), "{build}: {text}");
                } else if text.contains("GET /health") || text.contains("path=\"/health\"") {
                    assert_eq!(matcher.on_line(*stream, line), Verdict::Echo, "{build}: {text}");
                }
            }
        }
    }
}

#[test]
fn a_line_is_matched_as_one_however_it_is_wrapped() {
    let packs = PackSet::built_in();
    let pack = packs.get("llama-server-b11xxx").expect("there");
    let mut matcher = pack.matcher(Some(8001));
    let line = "0.00.244.892 I srv  llama_server: listening on http://127.0.0.1:8001";
    let wrapped = [
        line.to_owned(),
        format!("{line}\r"),
        line.chars().map(|character| format!("{character}\x1b[0m")).collect(),
        line.chars().map(|character| format!("{character}\0")).collect(),
    ];
    for line in wrapped {
        assert_eq!(matcher.on_line(StreamName::Stderr, line.as_bytes()), Verdict::Ready, "{line:?}");
    }
    let foreign = "0.00.244.892 I srv  llama_server: listening on http://127.0.0.1:8002";
    assert_eq!(matcher.on_line(StreamName::Stderr, foreign.as_bytes()), Verdict::Nothing, "another port");
    assert_eq!(matcher.on_line(StreamName::Stderr, b"\xff\xfe listening on \x80"), Verdict::Nothing);
}
