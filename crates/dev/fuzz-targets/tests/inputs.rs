//! Every input in the repository keeps every promise: those in `fuzz/corpus`, and those in `fuzz/regressions`, which once broke one.

#![expect(clippy::expect_used, reason = "a panic is how a test fails")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use llama_warden_fuzz_targets::{TARGETS, run};

/// The longest time that a function may take for [`LARGE`] bytes, without optimization and beside other tests. A reader whose time
/// grows with the square of its input takes longer.
const PATIENCE: Duration = Duration::from_secs(120);

/// The size of a large input.
const LARGE: usize = 256 << 10;

/// The inputs of a target in a folder below `fuzz`.
fn inputs(folder: &str, target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fuzz").join(folder).join(target);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("readable").path());
    paths.map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
}

#[test]
fn every_target_keeps_its_promises_with_every_input_of_the_repository() {
    let mut broken = Vec::new();
    for (target, _) in TARGETS {
        let corpus = inputs("corpus", target);
        assert!(!corpus.is_empty(), "fuzz/corpus/{target} has no input");
        for (path, input) in corpus.into_iter().chain(inputs("regressions", target)) {
            // Whole, cut in the middle, and one byte short: what a crash or a slow writer leaves.
            for length in [input.len(), input.len() / 2, input.len().saturating_sub(1)] {
                if catch_unwind(AssertUnwindSafe(|| run(target, &input[..length]))).is_err() {
                    broken.push(format!("{}, its first {length} bytes", path.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "broken promises: {broken:#?}");
}

#[test]
fn a_large_input_takes_no_time_out_of_proportion() {
    for (target, check) in TARGETS {
        let corpus = inputs("corpus", target);
        let largest = corpus.iter().map(|(_, input)| input).max_by_key(|input| input.len()).expect("has inputs");
        let input = largest.repeat(LARGE / largest.len() + 1);
        let started = Instant::now();
        check(&input);
        assert!(started.elapsed() < PATIENCE, "{target} took {:?} for {} bytes", started.elapsed(), input.len());
    }
}

#[test]
fn every_target_has_a_program_and_every_folder_of_inputs_a_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../fuzz");
    let names = |folder: &str| {
        let entries = fs::read_dir(fuzz.join(folder)).expect("readable");
        let name = |path: PathBuf| path.file_stem().map(|name| name.to_string_lossy().into_owned()).expect("a name");
        let mut names: Vec<_> = entries.map(|entry| name(entry.expect("readable").path())).collect();
        names.sort();
        names
    };
    let targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
    for name in names("regressions") {
        assert!(targets.contains(&name), "fuzz/regressions/{name} is of no target");
    }
}
