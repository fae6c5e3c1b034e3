//! Replays a transcript: its lines at their times, its change of `/health`, and its exit.

use std::{
    fs,
    str::FromStr as _,
    thread,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    ending,
    output::{self, Stream},
    script::Replay,
    state::{Server, ServerPhase},
};

/// One line of a transcript.
#[derive(Debug, Deserialize)]
struct RecordedEntry {
    t_us: u64,
    stream: String,
    #[serde(default)]
    data: Value,
}

/// Recorded values that are replaced by those of this process.
#[derive(Debug, Default)]
struct RecordedNames {
    port: Option<String>,
    model: Option<String>,
}

/// Replays up to the first recorded signal, else to the last line. A recorded exit ends this process.
pub(crate) fn run(server: &Server, replay: &Replay) {
    let text = match fs::read_to_string(&replay.path) {
        Ok(text) => text,
        Err(error) => {
            let path = replay.path.display();
            output::write(Stream::Stderr, format!("stand-in: cannot replay {path}: {error}\n"));
            std::process::exit(ending::BAD_SCRIPT)
        }
    };
    let entries: Vec<RecordedEntry> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    // The lines after the recorded signal were its effect; here the real signal decides.
    let stop = entries.iter().position(|entry| entry.stream == "signal").unwrap_or(entries.len());
    let entries = &entries[..stop];
    let ready_at = ready_at(entries);
    let began = Instant::now();
    let mut names = RecordedNames::default();
    for (at, entry) in entries.iter().enumerate() {
        // Recorded times count from the start, so that delays do not add up.
        let due = Duration::from_micros(entry.t_us).mul_f64(replay.scale.clamp(0.0, 1000.0));
        thread::sleep(due.saturating_sub(began.elapsed()));
        match entry.stream.as_str() {
            "meta" => names = RecordedNames::recorded(&entry.data),
            "stdout" => print(server, &names, Stream::Stdout, &entry.data),
            "stderr" => print(server, &names, Stream::Stderr, &entry.data),
            "exit" => repeat_exit(&entry.data),
            _ => {}
        }
        if ready_at == Some(at) {
            server.advance(ServerPhase::Ready);
        }
    }
}

/// The index of the entry after which the recorded server was ready: its first 200 of `/health`; without any, its last line,
/// unless it exited by itself.
fn ready_at(entries: &[RecordedEntry]) -> Option<usize> {
    if let Some(at) = entries.iter().position(|entry| entry.stream == "health" && entry.data["status"] == 200) {
        return Some(at);
    }
    if entries.iter().any(|entry| entry.stream == "exit") {
        return None;
    }
    entries.iter().rposition(|entry| matches!(entry.stream.as_str(), "stdout" | "stderr"))
}

fn print(server: &Server, names: &RecordedNames, stream: Stream, data: &Value) {
    let mut text = data.as_str().unwrap_or_default().to_owned();
    if let Some(port) = &names.port {
        text = text.replace(port, &server.port().to_string());
    }
    if let Some(model) = &names.model {
        text = text.replace(model, &server.settings.model);
    }
    output::write(stream, format!("{text}\n"));
}

fn repeat_exit(data: &Value) -> ! {
    match data["signal"].as_str().map(Signal::from_str) {
        Some(Ok(signal)) => ending::die(signal),
        Some(Err(_)) | None => {
            std::process::exit(data["code"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(1))
        }
    }
}

impl RecordedNames {
    fn recorded(meta: &Value) -> Self {
        let argv: Vec<&str> = meta["argv"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let model = argv.iter().position(|argument| *argument == "-m").and_then(|at| argv.get(at + 1));
        Self { port: meta["port"].as_u64().map(|port| port.to_string()), model: model.map(|&model| model.to_owned()) }
    }
}
