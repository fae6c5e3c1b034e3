//! Measures how fast the daemon reads output: recorded lines of a real build go from the pipe through redaction and patterns
//! into the ring.
//!
//! The server is a script that answers `--version` and `--help` like a real build and then floods stderr. It never becomes
//! ready, so every line is matched. Speed is bytes per second of the daemon's processor time, including all other work for the
//! server; one task reads a stream, so this is the speed of one core. The baseline is a
//! thread that reads the same flood and discards it.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use llama_warden_test_parts::error::{Error, OnPath};
use llama_warden_test_parts::paths;
use serde_json::Value;

use crate::Effort;
use crate::daemon::MeasuredDaemon;
use crate::figure::{Figure, FigureTarget};
use crate::flood::{FloodOptions, FloodReport};
use crate::ports;
use crate::procfs;
use crate::programs::{self, Programs, quoted, shell_word};
use crate::targets::{OUTPUT_SPEED, OUTPUT_WAIT};

/// Recordings of one build, below the fixtures of the tests; the flood repeats them.
const RECORDINGS: [&str; 4] =
    ["ready-slow.jsonl", "x-verbose.jsonl", "seed-flags-nofa.jsonl", "shutdown-term-gen.jsonl"];

/// How fast a flood was read.
#[derive(Debug, Clone, Copy)]
struct FloodResult {
    /// MB per second of the reader's processor time.
    speed: f64,
    /// Milliseconds of the writer's longest write.
    wait: f64,
}

impl FloodResult {
    fn new(bytes: usize, processor_time: Duration, report: FloodReport) -> Self {
        Self { speed: bytes as f64 / 1e6 / processor_time.as_secs_f64(), wait: report.longest.as_secs_f64() * 1e3 }
    }
}

/// Measures floods alternately through a daemon and through a thread that discards them.
///
/// # Errors
/// When the recordings are missing or a flood does not finish.
pub fn measure(programs: &Programs, effort: Effort) -> Result<Vec<Figure>, Error> {
    let folder = programs::empty_folder()?;
    let flood = FloodOptions {
        text: folder.path().join("lines"),
        report: folder.path().join("report"),
        bytes: effort.pick(512_000_000, 128_000_000),
    };
    fs::write(&flood.text, recorded_lines()?).on("write", &flood.text)?;
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..effort.pick(5, 2) {
        ours.push(through_daemon(programs, &flood)?);
        plain.push(read_and_discard(&flood)?);
    }
    let figure = |target: FigureTarget, value: fn(&FloodResult) -> f64| {
        target.figure(ours.iter().map(value), plain.iter().map(value))
    };
    Ok(vec![figure(OUTPUT_SPEED, |taken| taken.speed), figure(OUTPUT_WAIT, |taken| taken.wait)])
}

fn through_daemon(programs: &Programs, flood: &FloodOptions) -> Result<FloodResult, Error> {
    let home = programs::empty_folder()?;
    let model = programs::model(home.path(), "tiny", 0)?;
    let binary = flooding_server(home.path(), flood)?;
    let sections = format!(
        "[llama-server]\nbinary = {}\nargs = [\"--api-key\", \"sk-of-the-bench\"]\n[restart]\npolicy = \"never\"\n\
         [[servers]]\nid = \"measured\"\nmodel = {}\nport = {}\nenabled = false\n",
        quoted(&binary),
        quoted(&model),
        ports::free_ports(1)?[0],
    );
    let daemon = MeasuredDaemon::start(&programs.daemon, home.path(), &sections)?;
    daemon.wait_until_idle()?;
    let before = procfs::processor_time(daemon.pid())?;
    match daemon.ask(&["start", "measured", "--wait", "--timeout", "120s"]) {
        // The server ends without becoming ready. The daemon reports that after it has read all output.
        Err(Error::Failed { status, .. }) if status.code() == Some(3) => {}
        Err(error) => return Err(error),
        Ok(said) => {
            return Err(Error::missing(format!("a flood became ready: {said}"), "fix crates/dev/bench/src/output.rs"));
        }
    }
    let processor_time = procfs::processor_time(daemon.pid())?.saturating_sub(before);
    daemon.stop()?;
    Ok(FloodResult::new(flood.bytes, processor_time, FloodReport::read(&flood.report)?))
}

/// Writes a script that identifies itself as the recorded build, and floods when the daemon launches it.
fn flooding_server(folder: &Path, flood: &FloodOptions) -> Result<PathBuf, Error> {
    let own = std::env::current_exe().on("find", Path::new("/proc/self/exe"))?;
    let words: Vec<String> = flood.arguments().iter().map(|word| shell_word(Path::new(word))).collect();
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in\n--version) echo 'version: 0.7.0 (build 11669, commit x)' >&2; exit;;\n\
         --help) cat {}; exit;;\nesac\nexec {} {}\n",
        shell_word(&recordings().join("help.txt")),
        shell_word(&own),
        words.join(" "),
    );
    let path = folder.join("flooding-server");
    fs::write(&path, script).on("write", &path)?;
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).on("make executable", &path)?;
    Ok(path)
}

fn read_and_discard(flood: &FloodOptions) -> Result<FloodResult, Error> {
    let own = std::env::current_exe().on("find", Path::new("/proc/self/exe"))?;
    let mut child = Command::new(&own).args(flood.arguments()).stderr(Stdio::piped()).spawn().on("start", &own)?;
    let before = procfs::own_thread_time()?;
    if let Some(mut pipe) = child.stderr.take() {
        discard(&mut pipe).on("read from", &own)?;
    }
    let processor_time = procfs::own_thread_time()?.saturating_sub(before);
    child.wait().on("wait for", &own)?;
    Ok(FloodResult::new(flood.bytes, processor_time, FloodReport::read(&flood.report)?))
}

fn discard(pipe: &mut impl Read) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    while pipe.read(&mut buffer)? > 0 {}
    Ok(())
}

fn recordings() -> PathBuf {
    paths::root().join("tests/fixtures/transcripts/b11669-debian")
}

fn recorded_lines() -> Result<String, Error> {
    let mut lines = String::new();
    for name in RECORDINGS {
        let path = recordings().join(name);
        let text = fs::read_to_string(&path).on("read", &path)?;
        for record in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if let ("stderr" | "stdout", Some(line)) =
                (record["stream"].as_str().unwrap_or_default(), record["data"].as_str())
            {
                lines.push_str(line);
                lines.push('\n');
            }
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recordings_are_there_and_have_lines_of_usual_length() {
        let lines = recorded_lines().unwrap();
        let count = lines.lines().count();
        assert!(count > 800 && (40..200).contains(&(lines.len() / count)), "{count} lines, {} bytes", lines.len());
    }

    #[test]
    fn what_is_read_is_thrown_away_to_the_end() {
        let mut text = io::Cursor::new(vec![b'x'; 200_000]);
        discard(&mut text).unwrap();
        assert_eq!(text.position(), 200_000);
    }
}
