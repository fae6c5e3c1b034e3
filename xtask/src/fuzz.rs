//! `cargo xtask fuzz`: has libFuzzer invent inputs for each target in `fuzz/`, with those of the repository as a start.
//!
//! The programs are built with counters for every branch, by a pass that stable compilers have. No sanitizer is needed: the
//! targets run safe code, and panic where a promise is not kept. New inputs are kept below the build folder for the next run.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use llama_warden_test_parts::cargo::cargo;
use llama_warden_test_parts::error::{Error, OnPath};
use llama_warden_test_parts::{paths, shell};

/// What cargo-fuzz passes to the compiler, but for the sanitizer.
const FLAGS: [&str; 7] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
];

/// The longest input in bytes, the longest time for one in seconds (it passes while other programs have the processor too), and the
/// most memory in megabytes.
const LIMITS: [&str; 3] = ["-max_len=65536", "-timeout=60", "-rss_limit_mb=1024"];

/// Which targets, and for how long.
#[derive(Debug, clap::Args)]
pub struct FuzzOptions {
    /// How long each target runs
    #[arg(long, default_value_t = 60, value_name = "N")]
    pub seconds: u64,
    /// The targets, by the names of their files in fuzz/fuzz_targets; all of them where none is named
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
}

/// Builds the targets and runs them, as many at a time as there are processors. A finding stops its own target alone.
///
/// # Errors
/// When a target does not exist or does not build, or breaks a promise: with the message and the input.
pub fn run(options: &FuzzOptions) -> Result<(), Error> {
    let targets = chosen(&options.targets)?;
    let programs = build(&targets)?;
    // libFuzzer ends its programs without cleaning up.
    let scratch = env::temp_dir().join(format!("llama-warden-fuzz-{}", process::id()));
    fs::create_dir_all(&scratch).on("create", &scratch)?;
    let (next, findings) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(target) = targets.get(next.fetch_add(1, Ordering::Relaxed)) {
            match fuzz(&programs, target, options.seconds, &scratch) {
                Ok(summary) => eprintln!("fuzz: {target}: {summary}"),
                Err(error) => findings.lock().unwrap_or_else(|lock| lock.into_inner()).push(error.to_string()),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    fs::remove_dir_all(&scratch).on("remove", &scratch)?;
    let findings = findings.into_inner().unwrap_or_else(|lock| lock.into_inner());
    match findings.len() {
        0 => Ok(()),
        count => Err(Error::missing(
            format!("{count} of {} targets found something\n{}", targets.len(), findings.join("\n")),
            "fix the cause, and move the input to fuzz/regressions/TARGET, where the tests read it",
        )),
    }
}

/// The targets called by `names`, or all.
fn chosen(names: &[String]) -> Result<Vec<String>, Error> {
    let folder = paths::root().join("fuzz/fuzz_targets");
    let files = fs::read_dir(&folder)
        .on("list", &folder)?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned));
    let mut known: Vec<String> = files.collect();
    known.sort();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        let problem = format!("there is no target `{unknown}` in {}", folder.display());
        return Err(Error::missing(problem, format!("name some of: {}", known.join(", "))));
    }
    Ok(if names.is_empty() { known } else { names.to_vec() })
}

/// Builds the programs of `targets` and returns their folder.
fn build(targets: &[String]) -> Result<PathBuf, Error> {
    let version = shell::read(Command::new("rustc").arg("-vV").current_dir(paths::root()))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let folder = paths::target().join("fuzz");
    // The targets are tested with the versions that the product has.
    let lock = paths::root().join("fuzz/Cargo.lock");
    fs::copy(paths::root().join("Cargo.lock"), &lock).on("write", &lock)?;
    let mut build = cargo();
    // With a target named, the flags are not those of build scripts and macros.
    build.args(["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", host]);
    build.args(targets.iter().flat_map(|target| ["--bin", target]));
    build.env("CARGO_TARGET_DIR", &folder).env("RUSTFLAGS", FLAGS.join(" ")).env("CARGO_TERM_QUIET", "true");
    shell::run(&mut build)?;
    Ok(folder.join(host).join("release"))
}

/// Runs one target. Its output is kept in a file, since it is long.
fn fuzz(programs: &Path, target: &str, seconds: u64, scratch: &Path) -> Result<String, Error> {
    let folder = paths::target().join("fuzz");
    let (inputs, findings) = (folder.join("corpus").join(target), folder.join("findings").join(target));
    for folder in [&inputs, &findings] {
        fs::create_dir_all(folder).on("create", folder)?;
    }
    let log_path = folder.join(format!("{target}.log"));
    let log = File::create(&log_path).on("create", &log_path)?;
    let second = log.try_clone().on("open", &log_path)?;
    let mut command = Command::new(programs.join(target));
    // The first folder is where new inputs go.
    command.arg(&inputs);
    let known = ["corpus", "regressions"].map(|kind| paths::root().join("fuzz").join(kind).join(target));
    command.args(known.iter().filter(|folder| folder.is_dir())).args(LIMITS);
    command.arg(format!("-max_total_time={seconds}")).arg("-print_final_stats=1");
    command.arg(format!("-artifact_prefix={}/", findings.display()));
    command.env("RUST_BACKTRACE", "0").env("TMPDIR", scratch).stdout(Stdio::from(log)).stderr(Stdio::from(second));
    let status = shell::status(&mut command)?;
    let said = fs::read(&log_path).on("read", &log_path)?;
    let said = String::from_utf8_lossy(&said);
    if status.success() {
        let number = |name: &str| {
            said.lines().find_map(|line| line.strip_prefix(name)).unwrap_or(" an unknown number of").trim().to_owned()
        };
        let (runs, new) = (number("stat::number_of_executed_units:"), number("stat::new_units_added:"));
        return Ok(format!("{runs} inputs in {seconds} s, {new} of them new; nothing found"));
    }
    Err(Error::Failed { command: target.to_owned(), status, output: finding(&said, &log_path) })
}

/// What a target said when it broke a promise: the message of the panic and the file of the input.
fn finding(said: &str, log: &Path) -> String {
    let wanted = |line: &&str| {
        let starts = ["==", "Test unit written", "SUMMARY", "artifact_prefix"];
        starts.iter().any(|start| line.contains(start)) && !line.contains("rudimentary")
    };
    let panic = said.lines().skip_while(|line| !line.contains("panicked at")).take(6);
    let rest = said.lines().filter(wanted);
    let shown: String = panic.chain(rest).map(|line| format!("\n  | {line:.500}")).collect();
    format!("{shown}\n  | all of it: {}", log.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_told_with_its_message_and_its_input() {
        let said = "INFO: Seed: 1\nthread 'main' panicked at src/a.rs:1:1:\nleft in the text\n==7== ERROR: libFuzzer: deadly signal\n\
                    artifact_prefix='/x/'; Test unit written to /x/crash-1\n";
        let told = finding(said, Path::new("/x/a.log"));
        for part in ["left in the text", "/x/crash-1", "/x/a.log"] {
            assert!(told.contains(part), "{told}");
        }
        assert!(!told.contains("Seed"), "{told}");
    }

    #[test]
    fn a_target_that_does_not_exist_is_an_error_that_names_the_others() {
        let error = chosen(&["nonsense".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("`nonsense`") && error.contains("configuration"), "{error}");
        assert!(chosen(&[]).unwrap().len() > 5);
    }
}
