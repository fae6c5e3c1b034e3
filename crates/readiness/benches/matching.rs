//! How fast output is read: recorded lines of real builds through every built-in pack, and through the whole tap.
//!
//! `cargo bench -p llama-warden-readiness`. The aims: 300 MB/s on one core, far more than any llama-server writes, and at most
//! eight times the time of a substring search in each line, which is what start-up scripts do.

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use llama_warden_bus::{OutputKey, OutputLane};
use llama_warden_config::Fleet;
use llama_warden_events::{Incarnation, ServerId, StreamName};
use llama_warden_readiness::{Matcher, PackLibrary, Readiness};

const SLICES: usize = 64;
const SLICE_BYTES: usize = 4 * 1024 * 1024;

fn main() {
    let lines = recorded_lines();
    let bytes: usize = lines.iter().map(Vec::len).sum();
    println!("{} recorded lines, {} bytes on average", lines.len(), bytes / lines.len());
    let rounds = SLICE_BYTES / bytes;
    // What start-up scripts look for in each line.
    let phrases = ["http server listening", "server is listening", "listening on", "server started"];
    let finders = phrases.map(memchr::memmem::Finder::new);
    let search = |finders: &[memchr::memmem::Finder<'_>]| {
        measure(rounds, &lines, |line| {
            black_box(finders.iter().any(|finder| finder.find(line).is_some()));
        })
    };
    let search = Search { one: search(&finders[..1]), four: search(&finders) };
    println!(
        "substring search: {:.0} MB/s for one phrase, {:.0} MB/s for four, of the same lines",
        search.one, search.four
    );
    for pack in PackLibrary::built_in().iter() {
        let mut matcher = pack.matcher(Some(8001));
        let speed = measure(rounds, &lines, |line| {
            black_box(matcher.on_line(StreamName::Stderr, line));
        });
        report(pack.name(), speed, search);
    }
    let lane = OutputLane::default();
    let (_, fleet) = tokio::sync::watch::channel(Fleet::default());
    let _readiness = Readiness::new(fleet, PackLibrary::built_in(), &lane);
    let Ok(server) = ServerId::new("bench") else { return };
    let key = OutputKey { server, incarnation: Incarnation(1), stream: StreamName::Stderr };
    let mut sink = lane.open(&key, 256 * 1024);
    report("the whole lane", measure(rounds, &lines, |line| sink.push(line)), search);
}

/// Megabytes a second of looking for phrases.
#[derive(Clone, Copy)]
struct Search {
    one: f64,
    four: f64,
}

fn report(name: &str, speed: f64, search: Search) {
    let (one, four) = (search.one / speed, search.four / speed);
    println!("{name:22} {one:5.1} x the time of one phrase, {four:4.1} x of four, {speed:6.0} MB/s");
}

/// Megabytes a second, in the best of several slices: other work on the machine only ever makes it slower.
fn measure(rounds: usize, lines: &[Vec<u8>], mut read: impl FnMut(&[u8])) -> f64 {
    let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    let slice = || {
        let began = Instant::now();
        (0..rounds).for_each(|_| lines.iter().for_each(|line| read(line)));
        (bytes * rounds) as f64 / 1e6 / began.elapsed().as_secs_f64()
    };
    std::iter::repeat_with(slice).take(SLICES).fold(0.0, f64::max)
}

fn recorded_lines() -> Vec<Vec<u8>> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/transcripts");
    let recorded =
        ["2024-07-py0.2.80", "2024-11-py0.3.2", "2025-08-py0.3.16", "b11669-debian"].iter().flat_map(|build| {
            let text = std::fs::read_to_string(fixtures.join(build).join("ready-slow.jsonl")).unwrap_or_default();
            text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).collect::<Vec<_>>()
        });
    let is_output = |record: &serde_json::Value| record["stream"] == "stderr" || record["stream"] == "stdout";
    recorded.filter(is_output).filter_map(|record| Some(record["data"].as_str()?.as_bytes().to_vec())).collect()
}
