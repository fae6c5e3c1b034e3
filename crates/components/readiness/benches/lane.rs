//! How fast the output lane passes lines: ring, tap, and the detector pack, without a pipe.
//!
//! `cargo bench -p llama-warden-readiness --bench lane`. The aim is 300 MB/s on one core, far more than any llama-server
//! writes. The input is every line of the recorded runs of real builds; the figure is the median of the rounds. What the
//! patterns alone cost is measured in `llama-warden-detectors`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use llama_warden_bus::{OutputKey, OutputLane, wall_time};
use llama_warden_config::Fleet;
use llama_warden_detectors::PackSet;
use llama_warden_events::{Incarnation, ServerId, StreamName};
use llama_warden_readiness::Readiness;

const ROUNDS: usize = 101;

fn main() {
    let lines = recorded_lines();
    let bytes: usize = lines.iter().map(|(_, line)| line.len() + 1).sum();
    let lane = OutputLane::default();
    let (_, fleet) = tokio::sync::watch::channel(Fleet::default());
    let _readiness = Readiness::new(fleet, PackSet::built_in(), &lane);
    let Ok(server) = ServerId::new("bench") else { return };
    let open =
        |stream| lane.open(&OutputKey { server: server.clone(), incarnation: Incarnation::new(1), stream }, 256 * 1024);
    let (mut stderr, mut stdout) = (open(StreamName::Stderr), open(StreamName::Stdout));
    let mut round = || {
        let (began, at) = (Instant::now(), wall_time());
        for (stream, line) in &lines {
            match stream {
                StreamName::Stderr => stderr.push(at, line),
                StreamName::Stdout => stdout.push(at, line),
            }
        }
        began.elapsed().as_secs_f64()
    };
    // The first round compiles patterns and fills caches.
    round();
    let mut seconds: Vec<f64> = (0..ROUNDS).map(|_| round()).collect();
    seconds.sort_by(f64::total_cmp);
    println!("the whole lane {:6.0} MB/s", bytes as f64 / 1e6 / seconds[ROUNDS / 2]);
}

/// Every line that a recorded build wrote, with its stream.
fn recorded_lines() -> Vec<(StreamName, Vec<u8>)> {
    let transcripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fixtures/transcripts");
    let runs = entries(&transcripts).into_iter().flat_map(|build| entries(&build));
    let texts = runs.map(|run| std::fs::read_to_string(run).unwrap_or_default());
    let records = texts.flat_map(|text| {
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
