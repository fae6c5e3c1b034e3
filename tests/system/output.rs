//! Output of servers of any size and content.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::time::Duration;

use llama_warden_stand_in::{ScheduledAction, Script, ScriptAction, ScriptPhase, Stream};
use llama_warden_tests::{TestDaemon, TestRequest, WAIT_LIMIT, action_at, eventually, sample, sandbox};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::Instant;

const STREAM: Stream = Stream::Stderr;

fn say(text: &str) -> ScriptAction {
    ScriptAction::Say { text: text.to_owned(), stream: STREAM }
}

fn ready_actions(actions: impl IntoIterator<Item = ScriptAction>) -> Script {
    Script {
        actions: actions.into_iter().map(|action| action_at(ScriptPhase::Ready, action)).collect(),
        ..Script::default()
    }
}

async fn wait_for_output(daemon: &TestDaemon, id: &str, text: &str) {
    eventually(&format!("{id} says `{text}`"), WAIT_LIMIT, async || daemon.output(id).await.contains(text)).await;
}

/// The number of lines on standard error that the daemon has counted.
async fn lines_of(daemon: &TestDaemon, id: &str) -> f64 {
    let labels = [("server", id), ("stream", "stderr")];
    sample(&daemon.metrics().await, "llama_warden_server_output_lines_total", &labels).expect("a series")
}

/// A client that sends a request and never reads the response.
async fn stalled_client(daemon: &TestDaemon, path: &str) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.state_dir().join("control.sock")).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
    stream
}

/// Fault C14.
#[test]
fn output_that_is_not_utf_8_ends_nothing() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let bytes = ScriptAction::Bytes { bytes: b"\xff\xfe\x00\xc3(\n".to_vec(), stream: STREAM };
        fleet.server("a", ready_actions([bytes, say("after the bytes")]));
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        wait_for_output(&daemon, "a", "after the bytes").await;
        assert!(daemon.output("a").await.contains("\u{fffd}\u{fffd}\0\u{fffd}("), "{}", daemon.output("a").await);
        assert!(daemon.report("a").await.is_ready);
    });
}

/// Fault C15.
#[test]
fn a_line_of_a_hundred_megabytes_costs_no_memory_and_no_other_line() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let mut script =
            ready_actions([say("before"), ScriptAction::HugeLine { megabytes: 100, stream: STREAM }, say("after")]);
        // Time to read the daemon's memory before the line; reading it late makes the test weaker, not flaky.
        script.actions[1].after_ms = 1000;
        fleet.server("a", script);
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        wait_for_output(&daemon, "a", "before").await;
        let before = daemon.resident_bytes();
        wait_for_output(&daemon, "a", "after").await;
        let grown = daemon.resident_bytes().saturating_sub(before);
        assert!(grown < 1 << 20, "memory grew by {grown} bytes");
        let output = daemon.output("a").await;
        let lines: Vec<&str> = output.lines().collect();
        let at = lines.iter().position(|line| *line == "after").expect("the line after it is intact");
        assert!(lines[at - 1].starts_with("xxxx") && lines[at - 1].len() < 1 << 20, "one line, cut off");
        assert_eq!(lines[at - 2], "before");
    });
}

/// Fault C16.
#[test]
fn a_flood_with_every_reader_stalled_holds_up_neither_the_server_nor_the_daemon() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let flood = ScriptAction::Flood { megabytes: 100, stream: STREAM };
        fleet.server_with("a", ready_actions([flood, say("the flood is over")]), "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        let mut readers = Vec::new();
        for path in [
            "/api/v1/servers/a/logs?follow=1",
            "/api/v1/servers/a/logs?follow=1&stream=stderr",
            "/api/v1/events?since=0",
        ] {
            readers.push(stalled_client(&daemon, path).await);
        }
        let before = daemon.resident_bytes();
        daemon.command("a", "start?wait=50s").await.expect(200);
        let expected = f64::from(100_u32 * ((1 << 20) / 100));
        // It takes as long as the machine needs, but it never stands still.
        let mut counted = 0.0;
        while counted < expected {
            let before = counted;
            let more = async || lines_of(&daemon, "a").await > before;
            eventually(&format!("more than {before} of {expected} lines are counted"), WAIT_LIMIT, more).await;
            counted = lines_of(&daemon, "a").await;
        }
        wait_for_output(&daemon, "a", "the flood is over").await;
        let grown = daemon.resident_bytes().saturating_sub(before);
        assert!(grown < 32 << 20, "memory grew by {grown} bytes");
        assert!(daemon.report("a").await.is_ready);
        drop(readers);
    });
}

/// Fault C16, while servers load and stop.
#[test]
fn a_flood_does_not_hold_up_a_stop() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let flood = || ScriptAction::Flood { megabytes: 4000, stream: STREAM };
        let loading =
            Script { load_ms: 60_000, actions: vec![action_at(ScriptPhase::Loading, flood())], ..Script::default() };
        let stopping = Script { actions: vec![action_at(ScriptPhase::Stopping, flood())], ..Script::default() };
        fleet.server_with("loading", loading, "stop = { grace = \"2s\" }");
        fleet.server_with("stopping", stopping, "stop = { grace = \"2s\" }");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("stopping").await;
        eventually("it floods", WAIT_LIMIT, async || lines_of(&daemon, "loading").await > 1000.0).await;
        for id in ["loading", "stopping"] {
            let asked = Instant::now();
            daemon.command(id, "stop?wait=50s").await.expect(200);
            assert!(asked.elapsed() < Duration::from_secs(2 + 2 + 5), "{id}: {:?}", asked.elapsed());
        }
    });
}

/// Fault C17.
#[test]
fn closed_streams_are_not_an_exit() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let proof = sandbox.file("closed");
        fleet.server("a", ready_actions([ScriptAction::CloseStdio {}, ScriptAction::Dump { path: proof.clone() }]));
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        eventually("the streams are closed", WAIT_LIMIT, async || proof.exists()).await;
        assert_eq!(daemon.count("a", "ServerExited").await, 0);
        let report = daemon.report("a").await;
        assert!(report.is_ready && report.is_running);
        daemon.command("a", "stop?wait=50s").await.expect(200);
        assert_eq!(daemon.count("a", "StopEscalated").await, 0);
    });
}

/// Fault C3.
/// All lines are kept in order, and so is a last line without a newline.
#[test]
fn the_last_output_of_a_server_is_kept() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let lines = (1..=500).map(|line| say(&format!("line {line}")));
        let end = ScriptAction::Exit { code: 7, last_words: Some("without a newline".into()) };
        let mut script = ready_actions(lines.chain([end]));
        script.actions.insert(0, ScheduledAction { at: ScriptPhase::Ready, after_ms: 300, action: say("line 0") });
        fleet.server("a", script);
        let daemon = sandbox.up(&fleet).await;
        daemon.exited("a").await;
        let output = daemon.output("a").await;
        let expected: String = (0..=500).map(|line| format!("line {line}\n")).collect();
        assert!(output.ends_with(&format!("{expected}without a newline\n")), "{output}");
        let tail = daemon.get("/api/v1/servers/a/logs?tail=1").await.expect(200).text();
        assert_eq!(tail, "without a newline\n");
        let records = daemon
            .send(TestRequest::get("/api/v1/servers/a/logs?tail=2").header("accept", "application/x-ndjson"))
            .await;
        assert_eq!(records.text().lines().count(), 2, "{}", records.text());
    });
}

/// Fault C54: bars that a carriage return overwrites, dots, and a MiB before an error, all without a line feed.
#[test]
fn output_without_line_feeds_is_life_and_its_end_is_kept() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let bytes = |text: &str| ScriptAction::Bytes { bytes: text.as_bytes().to_vec(), stream: STREAM };
        let later = |action| ScheduledAction { at: ScriptPhase::Loading, after_ms: 400, action };
        let bars = (1..10).map(|tenth| later(bytes(&format!("\rdownloading {}0 %", tenth))));
        let dots = (1..10).map(|_| later(bytes(".")));
        let keys = "readiness = { timeout = \"60s\", on-timeout = \"fail\", stall-timeout = \"2s\" }";
        fleet.server_with(
            "bars",
            Script { load_ms: 5000, silent: true, actions: bars.collect(), ..Script::default() },
            keys,
        );
        fleet.server_with(
            "dots",
            Script { load_ms: 5000, silent: true, actions: dots.collect(), ..Script::default() },
            keys,
        );
        let fatal =
            "error loading model: tensor 'x' data is not within the file bounds, model is corrupted or incomplete";
        let end = ScriptAction::Exit { code: 1, last_words: Some(fatal.to_owned()) };
        let dies = vec![later(bytes(&"x".repeat(1 << 20))), later(bytes("\n")), later(end)];
        fleet.server_with("dies", Script { load_ms: 60_000, actions: dies, ..Script::default() }, keys);
        let daemon = sandbox.up(&fleet).await;
        for id in ["bars", "dots"] {
            daemon.ready(id).await;
            assert_eq!(daemon.count(id, "ServerFailed").await, 0, "{id}");
        }
        daemon.command("bars", "stop?wait=50s").await.expect(200);
        assert!(daemon.output("bars").await.contains("downloading 90 %"), "{}", daemon.output("bars").await);
        let (_, detail, lines) = daemon.failure("dies").await;
        assert!(
            detail.contains("not within the file bounds") || lines.iter().any(|line| line.contains(fatal)),
            "{detail} {lines:?}"
        );
        assert!(daemon.output("dies").await.contains(fatal));
    });
}
