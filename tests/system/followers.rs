//! Clients that follow events or logs until the daemon, or their server, is gone.

use std::process::Stdio;
use std::time::Duration;

use llama_warden_events::{Envelope, Event};
use llama_warden_stand_in::{Script, ScriptAction, ScriptPhase, Stream};
use llama_warden_tests::{
    Sandbox, TestDaemon, TestRequest, WAIT_LIMIT, action_at, daemon_program, eventually, sample, sandbox,
};
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::{Child, ChildStdout};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

/// The number of daemons that are stopped with followers. A race that loses the last event shows in some of them.
const ENDS: usize = 50;

/// The number of followers over TCP. The harness follows over the control socket and checks its own stream.
const FOLLOWERS: usize = 4;

#[test]
fn every_follower_gets_the_last_event_and_a_clean_end_of_the_stream() {
    for _ in 0..ENDS {
        sandbox(async |sandbox| {
            let daemon = sandbox.up(&sandbox.fleet()).await;
            let mut bodies = Vec::new();
            for _ in 0..FOLLOWERS {
                let request = TestRequest::get("/api/v1/events?since=0").header("accept", "application/x-ndjson");
                bodies.push(request.open(daemon.http()).await.expect("it answers").into_body());
            }
            daemon.signal(Signal::SIGTERM);
            assert_eq!(daemon.exit_code().await, 0);
            for body in bodies {
                let bytes = http_body_util::BodyExt::collect(body).await.expect("a clean end").to_bytes();
                let last = bytes.trim_ascii().rsplit(|byte| *byte == b'\n').next().expect("something");
                let last: Envelope = serde_json::from_slice(last).expect("an envelope");
                assert!(matches!(last.event, Event::DaemonStopped { .. }), "{last:?}");
            }
        });
    }
}

/// A running `logs -f` or `events -f`, and the lines that it has printed.
struct Follower {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    shown: Vec<String>,
}

impl Follower {
    fn start(sandbox: &Sandbox, daemon: &TestDaemon, arguments: &[&str]) -> Self {
        let mut command = sandbox.program(daemon_program());
        command.arg("--config").arg(daemon.config()).args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, lines, shown: Vec::new() }
    }

    /// Reads until a line contains `text`; false if the output ends before.
    async fn shows(&mut self, text: &str) -> bool {
        while let Some(line) = timeout(WAIT_LIMIT, self.lines.next_line()).await.expect(text).expect("it is read") {
            self.shown.push(line);
            if self.shown.last().is_some_and(|line| line.contains(text)) {
                return true;
            }
        }
        false
    }

    /// Ends the command.
    async fn kill(mut self) {
        self.child.kill().await.expect("ours");
    }

    /// Asserts that the command exits with 0.
    async fn ends(mut self) {
        assert!(!self.shows("nothing says this").await);
        assert!(self.child.wait().await.expect("waited for").success(), "{:#?}", self.shown);
    }
}

/// Fault S33.
#[test]
fn followers_on_the_command_line_show_the_end_and_go_on_with_the_next_daemon() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let says = |at, text: &str| action_at(at, ScriptAction::Say { text: text.to_owned(), stream: Stream::Stderr });
        let actions = vec![says(ScriptPhase::Ready, "its first words"), says(ScriptPhase::Stopping, "its last words")];
        fleet.server("a", Script { actions, ..Script::default() });
        fleet.server("b", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let mut logs = Follower::start(sandbox, &daemon, &["logs", "-f", "a"]);
        assert!(logs.shows("its first words").await);
        let mut events = Follower::start(sandbox, &daemon, &["events", "-f", "--json"]);
        daemon.command("b", "stop?wait=50s").await.expect(200);
        // An event that came after the command began proves that it follows.
        assert!(events.shows("\"ServerStopped\"").await);
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 0);
        assert!(logs.shows("its last words").await, "{:#?}", logs.shown);
        assert!(events.shows("\"DaemonStopped\"").await, "{:#?}", events.shown);
        let next = sandbox.up(&fleet).await;
        next.ready("a").await;
        assert!(logs.shows("its first words").await, "{:#?}", logs.shown);
        assert!(events.shows("\"DaemonStarted\"").await, "{:#?}", events.shown);
        assert!(events.shows("\"ReadyReached\"").await, "the events of the next daemon come from its first one");
        logs.kill().await;
        events.kill().await;

        let earlier = sandbox.run(next.config(), ["events", "--json", "--run", "-1"]).await.expect(0).stdout;
        let earlier: Vec<Envelope> = earlier.lines().map(|line| serde_json::from_str(line).expect("one")).collect();
        assert!(matches!(earlier.last().expect("some").event, Event::DaemonStopped { .. }), "{:?}", earlier.last());
        assert!(earlier.iter().all(|event| Some(event.boot) != next.event_stream().boot()));
        sandbox.run(next.config(), ["events", "--run", "-7"]).await.expect(1);
        let of_one = sandbox.run(next.config(), ["events", "--run", "-1", "b"]).await.expect(0).stdout;
        assert!(of_one.lines().all(|line| line.contains(" b")) && of_one.contains(" b#1 server stopped"), "{of_one}");
        let unknown = sandbox.run(next.config(), ["events", "--run", "-1", "aa"]).await.expect(2).stderr;
        assert!(unknown.contains("no server `aa`") && unknown.contains("`a`"), "{unknown}");
    });
}

#[test]
fn a_follower_ends_when_its_server_leaves_the_configuration() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let words = action_at(
            ScriptPhase::Ready,
            ScriptAction::Say { text: "its first words".to_owned(), stream: Stream::Stderr },
        );
        fleet.server("stays", Script::default());
        let without = fleet.toml();
        fleet.server("leaves", Script { actions: vec![words], ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("leaves").await;
        let mut logs = Follower::start(sandbox, &daemon, &["logs", "-f", "leaves"]);
        assert!(logs.shows("its first words").await);
        std::fs::write(fleet.path(), without).unwrap();
        // Without the server, the file ends where a half-written one could.
        daemon.post("/api/v1/reload?wait=50s&force=1").await.expect(200);
        logs.ends().await;
    });
}

/// A connection in between that can be cut: a daemon cuts those that read nothing for long.
async fn pass_on(mut client: TcpStream, daemon: u16) -> JoinHandle<()> {
    let mut server = TcpStream::connect(("127.0.0.1", daemon)).await.expect("it listens");
    tokio::spawn(async move { copy_bidirectional(&mut client, &mut server).await.map_or((), |_| ()) })
}

#[test]
fn a_log_on_the_command_line_that_was_cut_off_goes_on_and_says_how_many_lines_are_missing() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[logs]\nring = \"4KiB\"");
        let flood = ScriptAction::Flood { megabytes: 1, stream: Stream::Stderr };
        let says = |text: &str| ScriptAction::Say { text: text.to_owned(), stream: Stream::Stderr };
        let actions =
            [says("before"), flood, says("behind")].map(|action| action_at(ScriptPhase::Ready, action)).to_vec();
        fleet.server_with("a", Script::default(), "enabled = false");
        fleet.rewrite(
            "a",
            &Script { actions: vec![action_at(ScriptPhase::Ready, says("before"))], ..Script::default() },
        );
        let daemon = sandbox.up(&fleet).await;
        daemon.command("a", "start?wait=50s").await.expect(200);
        let between = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", between.local_addr().expect("it has one"));
        let mut logs = Follower::start(sandbox, &daemon, &["--address", &address, "logs", "-f", "a", "--json"]);
        let mut passed = Vec::new();
        let shown = async |logs: &mut Follower, passed: &mut Vec<JoinHandle<()>>, text: &str| loop {
            tokio::select! {
                is_shown = logs.shows(text) => break assert!(is_shown, "{:#?}", logs.shown),
                Ok((client, _)) = between.accept() => passed.push(pass_on(client, fleet.listen()).await),
            }
        };
        shown(&mut logs, &mut passed, "before").await;
        passed.drain(..).for_each(|connection| connection.abort());
        fleet.rewrite("a", &Script { actions, ..Script::default() });
        daemon.command("a", "restart?wait=50s").await.expect(200);
        eventually("the ring has turned over", WAIT_LIMIT, async || daemon.output("a").await.contains("behind")).await;
        logs.shown.clear();
        shown(&mut logs, &mut passed, "behind").await;
        let lost = logs.shown.iter().find(|line| line.contains("\"lost\":")).expect("the loss is told");
        let lost: serde_json::Value = serde_json::from_str(lost).expect("JSON");
        let kept = logs.shown.iter().filter(|line| line.contains("\"line\":")).count() as u64;
        let labels = [("server", "a"), ("stream", "stderr")];
        let metrics = daemon.metrics().await;
        let dropped = sample(&metrics, "llama_warden_server_output_dropped_lines_total", &labels);
        assert_eq!(dropped, lost["lost"].as_f64(), "it is counted");
        assert!(lost["lost"].as_u64() > Some(10_000) && kept < 100, "{lost} {kept}");
        logs.kill().await;
    });
}

/// What is kept is read before what happens next, and a daemon may end or fall silent meanwhile.
#[test]
fn events_on_the_command_line_go_on_after_what_is_kept_was_cut_off() {
    sandbox(async |sandbox| {
        let fleet = sandbox.fleet();
        let daemon = sandbox.up(&fleet).await;
        let between = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", between.local_addr().expect("it has one"));
        let mut events = Follower::start(sandbox, &daemon, &["--address", &address, "events", "-f", "--json"]);
        let (mut cuts, mut head) = (0, [0; 1024]);
        let is_shown = loop {
            tokio::select! {
                is_shown = events.shows("\"DaemonStarted\"") => break is_shown,
                Ok((client, _)) = between.accept() => {
                    let length = client.peek(&mut head).await.expect("a request");
                    match cuts == 0 && String::from_utf8_lossy(&head[..length]).contains("follow=0") {
                        true => cuts += 1,
                        false => drop(pass_on(client, fleet.listen()).await),
                    }
                }
            }
        };
        assert!(is_shown && cuts == 1, "{cuts} cuts, {:#?}", events.shown);
        events.kill().await;
    });
}

#[test]
fn a_follower_that_never_reads_does_not_hold_up_the_end_of_the_daemon() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[logs]\nring = \"16MiB\"");
        let flood = ScriptAction::Flood { megabytes: 12, stream: Stream::Stderr };
        fleet.server("a", Script { actions: vec![action_at(ScriptPhase::Ready, flood)], ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        let mut stalled = UnixStream::connect(daemon.state_dir().join("control.sock")).await.unwrap();
        let request = b"GET /api/v1/servers/a/logs?follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stalled.write_all(request).await.unwrap();
        let flooded = f64::from(12 * ((1 << 20) / 100));
        let labels = [("server", "a"), ("stream", "stderr")];
        eventually("far more is there than a socket takes", WAIT_LIMIT, async || {
            sample(&daemon.metrics().await, "llama_warden_server_output_lines_total", &labels) >= Some(flooded)
        })
        .await;
        daemon.command("a", "stop?wait=50s").await.expect(200);
        let asked = Instant::now();
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 0);
        // The daemon waits a second for clients to read their streams; the rest is slack for a busy machine.
        assert!(asked.elapsed() < Duration::from_secs(1 + 4), "{:?}", asked.elapsed());
        drop(stalled);
    });
}
