//! How fast patterns match: every recorded line of real builds through every built-in pack.
//!
//! `cargo bench -p llama-warden-detectors --bench matching`. The aim: at most eight times the time of a substring search in
//! each line. The strictest such search looks for one phrase, with a searcher that is built once and uses vector
//! instructions. Start-up scripts look for four phrases, here with four such searchers.
//!
//! All readers take turns, round by round, so that other work on the machine slows them alike. Each figure is the median of
//! its rounds.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

use llama_warden_detectors::{Matcher, PackSet};
use llama_warden_events::StreamName;
use llama_warden_plugin_files::PluginFile as _;
use memchr::memmem::Finder;

const ROUNDS: usize = 101;
/// The phrases that start-up scripts look for in each line.
const PHRASES: [&str; 4] = ["http server listening", "server is listening", "listening on", "server started"];

/// A name, and one of the compared functions: it reads a line.
type Reader<'a> = (String, Box<dyn FnMut(StreamName, &[u8]) + 'a>);

fn main() {
    let lines = recorded_lines();
    let bytes: usize = lines.iter().map(|(_, line)| line.len() + 1).sum();
    println!("{} recorded lines, {} bytes on average", lines.len(), bytes / lines.len().max(1));
    let finders = PHRASES.map(Finder::new);
    let one = |_, line: &[u8]| {
        black_box(finders[0].find(line));
    };
    let four = |_, line: &[u8]| {
        black_box(finders.iter().any(|finder| finder.find(line).is_some()));
    };
    let mut readers: Vec<Reader<'_>> =
        vec![("one phrase".into(), Box::new(one)), ("four phrases".into(), Box::new(four))];
    for pack in PackSet::built_in().iter() {
        let mut matcher = pack.matcher(Some(8001));
        let judge = move |stream, line: &[u8]| {
            black_box(matcher.on_line(stream, line));
        };
        readers.push((pack.name().into(), Box::new(judge)));
    }
    report(&readers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), &seconds(&mut readers, &lines), bytes);
}

/// For each round, the seconds that each reader takes for all lines.
fn seconds(readers: &mut [Reader<'_>], lines: &[(StreamName, Vec<u8>)]) -> Vec<Vec<f64>> {
    let round = |readers: &mut [Reader<'_>]| {
        let turns = readers.iter_mut().map(|(_, read)| {
            let began = Instant::now();
            lines.iter().for_each(|(stream, line)| read(*stream, line));
            began.elapsed().as_secs_f64()
        });
        turns.collect()
    };
    let _warm: Vec<f64> = round(readers);
    (0..ROUNDS).map(|_| round(readers)).collect()
}

fn report(names: &[String], rounds: &[Vec<f64>], bytes: usize) {
    let speed = |reader: usize| bytes as f64 / 1e6 / median(rounds.iter().map(|round| round[reader]));
    println!("substring search: {:.0} MB/s for one phrase, {:.0} MB/s for four, of the same lines", speed(0), speed(1));
    for (reader, name) in names.iter().enumerate().skip(2) {
        let times = |baseline: usize| median(rounds.iter().map(|round| round[reader] / round[baseline]));
        let (one, four, speed) = (times(0), times(1), speed(reader));
        println!("{name:22} {one:5.1} x the time of one phrase, {four:5.1} x of four, {speed:6.0} MB/s");
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Every line that a recorded build wrote, with its stream.
fn recorded_lines() -> Vec<(StreamName, Vec<u8>)> {
    let builds = entries(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/transcripts"));
    let records = builds.iter().flat_map(|build| entries(build)).flat_map(|run| {
        let text = std::fs::read_to_string(run).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()).collect::<Vec<_>>()
    });
    let line = |record: serde_json::Value| {
        let stream = StreamName::ALL.into_iter().find(|stream| record["stream"] == stream.as_str())?;
        Some((stream, record["data"].as_str()?.as_bytes().to_vec()))
    };
    records.filter_map(line).collect()
}

/// The entries of a folder, sorted by path.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}
