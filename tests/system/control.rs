//! Concurrent commands, clients that do not read, and the commands of the command line that talk to a daemon.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::collections::{BTreeSet, VecDeque};
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::join_all;
use llama_warden_events::{CommandOutcome, Event, Seq};
use llama_warden_stand_in::{ScheduledAction, Script, ScriptAction, ScriptPhase, Stream, TermScript};
use llama_warden_state::PhaseName;
use llama_warden_tests::{
    DaemonOptions, DaemonOutput, Endpoint, EventStream, TestRequest, WAIT_LIMIT, daemon_program, eventually,
    open_files, sample, sandbox,
};
use nix::sys::signal::Signal;
use tokio::io::{AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// Every completed command: its id, and its outcome.
fn outcomes(event_stream: &EventStream) -> Vec<(Seq, CommandOutcome)> {
    let completed = event_stream.events().into_iter().filter_map(|event| match event.event {
        Event::CommandCompleted { outcome } => Some((event.cause.expect("the command"), outcome)),
        _ => None,
    });
    completed.collect()
}

/// Fault S10.
#[test]
fn a_hundred_restarts_at_once_are_each_answered_once_and_end_in_ready() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let before = daemon.status().await.seq;
        let answers = join_all((0..100).map(|_| daemon.command("a", "restart?wait=50s"))).await;
        for answer in answers {
            let status = answer.status.as_u16();
            assert!([200, 503].contains(&status), "{status}: {}", answer.text());
        }
        let report = daemon.report("a").await;
        assert_eq!(report.phase, PhaseName::Ready);
        let events = daemon.events_of("a").await;
        let accepted: Vec<Seq> = events
            .iter()
            .filter(|event| event.seq > before && matches!(event.event, Event::CommandAccepted { .. }))
            .map(|event| event.seq)
            .collect();
        assert!(!accepted.is_empty());
        let outcomes = outcomes(daemon.event_stream());
        for id in &accepted {
            let count = outcomes.iter().filter(|(cause, _)| cause == id).count();
            assert_eq!(count, 1, "command {id} was completed {count} times");
        }
        // Compare launches, not numbers of events: a launch that is cancelled before the spawn has an end and no spawn.
        let of_kind = |kind: &str| -> BTreeSet<_> {
            events.iter().filter(|event| event.event.kind() == kind).filter_map(|event| event.incarnation).collect()
        };
        let ended = of_kind("ServerExited");
        for kind in ["LaunchBegan", "ServerSpawned"] {
            let alive: Vec<_> = of_kind(kind).difference(&ended).copied().collect();
            assert_eq!(alive, [report.incarnation], "{kind}: every launch but the last has ended");
        }
    });
}

/// Fault S10.
#[test]
fn the_last_command_decides_the_final_state() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let slow = Script { load_ms: 2000, term: TermScript::Slow(500), ..Script::default() };
        fleet.server_with("a", slow, "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        // A stop during a start: the caller that waits for the start learns that a later command superseded it.
        let start = daemon.command("a", "start?wait=50s");
        let stop = async {
            daemon.event("it is launched", |event| matches!(event.event, Event::ServerSpawned { .. })).await;
            daemon.command("a", "stop?wait=50s").await
        };
        let (start, stop) = tokio::join!(start, stop);
        assert_eq!(start.expect(409).json()["reason"], "superseded");
        stop.expect(200);
        assert_eq!(daemon.report("a").await.phase, PhaseName::Exited);
        // A start during a stop: a new launch follows the old one.
        daemon.command("a", "start?wait=50s").await.expect(200);
        daemon.command("a", "stop").await.expect(202);
        daemon.command("a", "start?wait=50s").await.expect(200);
        let report = daemon.report("a").await;
        assert_eq!((report.phase, report.incarnation.get()), (PhaseName::Ready, 3));
        // A start of a ready server completes at once and launches nothing.
        daemon.command("a", "start?wait=50s").await.expect(200);
        assert_eq!(daemon.report("a").await.incarnation.get(), 3);
        // So does a stop of a stopped server.
        daemon.command("a", "stop?wait=50s").await.expect(200);
        daemon.command("a", "stop?wait=50s").await.expect(200);
        assert_eq!(daemon.count("a", "ServerExited").await, 3);
    });
}

/// The number of open files of the daemon does not grow with restarts.
#[test]
fn restarts_leave_no_file_open() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let rounds = async |count: usize| {
            for _ in 0..count {
                daemon.command("a", "restart?wait=50s").await.expect(200);
            }
        };
        rounds(3).await;
        let before = open_files(daemon.pid());
        rounds(20).await;
        // A connection that has been answered may take a moment to close.
        eventually("as many open files as before", WAIT_LIMIT, async || open_files(daemon.pid()) <= before).await;
    });
}

/// Faults S12 and S27.
#[test]
fn clients_that_never_read_hold_up_nothing() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        // As many as either listener takes, but for a few.
        let mut stalled: Vec<Box<dyn AsyncWrite + Unpin>> = Vec::new();
        for client in 0..1000 {
            let path = if client % 4 < 2 { "/api/v1/events?since=0" } else { "/api/v1/servers/a/logs?follow=1" };
            let mut stream: Box<dyn AsyncWrite + Unpin> = if client % 2 == 0 {
                Box::new(UnixStream::connect(daemon.state_dir().join("control.sock")).await.unwrap())
            } else {
                Box::new(TcpStream::connect(("127.0.0.1", fleet.listen())).await.unwrap())
            };
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
            stalled.push(stream);
        }
        for _ in 0..5 {
            daemon.command("a", "restart?wait=50s").await.expect(200);
        }
        assert!(daemon.report("a").await.is_ready);
        assert_eq!(
            sample(&daemon.metrics().await, "llama_warden_server_launches_total", &[("server", "a")]),
            Some(6.0)
        );
        // They do not delay the exit of the daemon either, which the sandbox checks.
        drop(daemon);
    });
}

#[test]
fn the_first_answer_shows_every_configured_server() {
    const SERVERS: usize = 300;
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        for number in 0..SERVERS {
            fleet.server_with(&format!("s{number}"), Script::default(), "enabled = false");
        }
        let daemon = sandbox.up(&fleet).await;
        assert_eq!(daemon.status().await.total_servers, SERVERS);
    });
}

/// Fault S27.
#[test]
fn probes_are_answered_however_many_clients_never_read() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let mut silent = Vec::new();
        for _ in 0..512 {
            let mut stream = TcpStream::connect(("127.0.0.1", fleet.listen())).await.unwrap();
            stream.write_all(b"GET /api/v1/events?since=0 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            stream.readable().await.unwrap();
            silent.push(stream);
        }
        for _ in 0..50 {
            for probe in ["/livez", "/readyz"] {
                TestRequest::get(probe).send(daemon.http()).await.unwrap().expect(200);
            }
        }
        let refused = TestRequest::get("/api/v1/status").send(daemon.http()).await.unwrap().expect(503);
        assert_eq!(refused.json()["reason"], "too-many-connections");
        daemon.command("a", "restart?wait=50s").await.expect(200);
        silent.truncate(256);
        eventually("there is a place again", WAIT_LIMIT, async || {
            let answer = TestRequest::get("/api/v1/status").send(daemon.http()).await;
            answer.is_ok_and(|answer| answer.status.as_u16() == 200)
        })
        .await;
    });
}

/// Fault S27. Anybody on the machine can open them, and the daemon has descriptors for few or for many of them.
#[test]
fn a_probe_is_answered_soon_beside_any_number_of_connections_that_say_nothing() {
    let few = ["prlimit", "--nofile=200:200"].map(str::to_owned).to_vec();
    for options in [DaemonOptions::default(), DaemonOptions { under: few, ..DaemonOptions::default() }] {
        sandbox(async |sandbox| {
            let mut fleet = sandbox.fleet();
            fleet.server("a", Script::default());
            let daemon = sandbox.up_with(&fleet, &options).await;
            daemon.ready("a").await;
            let address = ("127.0.0.1", fleet.listen());
            let (send, mut opened) = watch::channel(0_u32);
            let opening = async {
                let mut silent = VecDeque::new();
                loop {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    // Some begin a request, some have had an answer.
                    let said: &[u8] = match *send.borrow() % 3 {
                        0 => b"",
                        1 => b"GET /livez HT",
                        _ => b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
                    };
                    // An error means that it has given way already.
                    let _ = stream.write_all(said).await;
                    silent.push_back(stream);
                    if silent.len() > 800 {
                        silent.pop_front();
                    }
                    send.send_modify(|count| *count += 1);
                }
            };
            let probing = async {
                for round in 1..=20 {
                    opened.wait_for(|count| *count >= 100 * round).await.unwrap();
                    for path in ["/livez", "/api/v1/sd"] {
                        let answer = timeout(Duration::from_secs(3), TestRequest::get(path).send(daemon.http())).await;
                        answer.expect("in time").unwrap().expect(200);
                    }
                }
            };
            tokio::select! {
                () = opening => {}
                () = probing => {}
            }
            daemon.command("a", "restart?wait=50s").await.expect(200);
        });
    }
}

/// Fault S15.
#[test]
fn a_log_that_nobody_can_write_holds_up_nothing() {
    for output in [DaemonOutput::Closed, DaemonOutput::Full, DaemonOutput::Blocked] {
        sandbox(async |sandbox| {
            let mut fleet = sandbox.fleet();
            fleet.server("a", Script::default());
            let daemon = sandbox.up_with(&fleet, &DaemonOptions { output, ..DaemonOptions::default() }).await;
            daemon.ready("a").await;
            // More lines than fit into a pipe.
            for _ in 0..10 {
                daemon.command("a", "restart?wait=50s").await.expect(200);
            }
            assert!(daemon.report("a").await.is_ready, "{output:?}");
        });
    }
}

/// Fault S33.
/// With `Last-Event-ID` the stream continues after that event.
#[test]
fn the_event_stream_resumes_without_a_gap() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let all = daemon.get("/api/v1/events?since=0&follow=0").await.expect(200).text();
        let ids_of = |text: &str| -> Vec<u64> {
            text.lines().filter_map(|line| line.strip_prefix("id: ")?.split_once(':')?.1.parse().ok()).collect()
        };
        let id = all.lines().rev().find_map(|line| line.strip_prefix("id: ")).expect("events");
        let last = ids_of(&all).into_iter().max().expect("events");
        assert_eq!(all.matches("event: ReadyReached").count(), 1);
        daemon.command("a", "stop?wait=50s").await.expect(200);
        let resumed = TestRequest::get("/api/v1/events?follow=0").header("last-event-id", id);
        let resumed = daemon.send(resumed).await.expect(200).text();
        let ids = ids_of(&resumed);
        assert_eq!(ids.first(), Some(&(last + 1)));
        assert!(ids.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ids:?}");
        assert!(resumed.contains("event: ServerStopped"), "{resumed}");
    });
}

/// Fault S33: a position of another run of the daemon, also one that is still to come in this run.
#[test]
fn a_position_of_another_run_is_a_gap_with_the_state_and_the_stream_goes_on() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let all = daemon.get("/api/v1/events?since=0&follow=0").await.expect(200).text();
        let id = all.lines().rev().find_map(|line| line.strip_prefix("id: ")).expect("events").to_owned();
        let boot = id.split_once(':').expect("a run and a number").0.to_owned();
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 0);
        let next = sandbox.up(&fleet).await;
        next.ready("a").await;
        for position in [id, format!("{boot}:1"), format!("{boot}:999999")] {
            let resumed = TestRequest::get("/api/v1/events?follow=0").header("last-event-id", &position);
            let resumed = next.send(resumed).await.expect(200).text();
            let gap = resumed.split("\n\n").find(|message| message.contains("event: gap")).expect("a gap");
            assert!(gap.contains("\"ready_servers\"") || gap.contains("snapshot"), "{gap}");
        }
    });
}

/// The command `down`.
#[test]
fn down_stops_every_server_and_the_daemon() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default()).server("b", Script { term: TermScript::Slow(700), ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.ready("b").await;
        sandbox.run(daemon.config(), ["down"]).await.expect(0);
        assert_eq!(daemon.exit_code().await, 0);
        assert!(!daemon.state_dir().join("control.sock").exists());
        let Endpoint::Tcp(port) = daemon.http() else { panic!("a TCP listener") };
        std::net::TcpListener::bind(("127.0.0.1", *port)).expect("its port is free");
        sandbox.run(daemon.config(), ["down"]).await.expect(5);
    });
}

/// The options `--server` and `--profile` of `up`.
#[test]
fn up_starts_what_it_is_asked_for() {
    sandbox(async |sandbox| {
        let profile = "[profiles.pair]\nservers = [\"b*\"]";
        for (arguments, started) in [(["--server", "a"], ["a"].as_slice()), (["--profile", "pair"], &["b1", "b2"])] {
            let mut fleet = sandbox.fleet_named(started[0]);
            fleet.section(profile);
            ["a", "b1", "b2"].iter().for_each(|id| {
                fleet.server(id, Script::default());
            });
            let arguments = arguments.map(str::to_owned).to_vec();
            let daemon = sandbox.up_with(&fleet, &DaemonOptions { arguments, ..DaemonOptions::default() }).await;
            for id in started {
                daemon.ready(id).await;
            }
            daemon.get("/readyz").await.expect(200);
            let running = daemon.status().await.servers.into_iter().filter(|server| server.is_running);
            let running: Vec<_> = running.map(|server| server.model_id.to_string()).collect();
            assert_eq!(running, started);
        }
    });
}

/// The commands `logs -f` and `events -f`.
#[test]
fn followers_see_what_comes() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let says = ScheduledAction {
            at: ScriptPhase::Ready,
            after_ms: 300,
            action: ScriptAction::Say { text: "something new".into(), stream: Stream::Stdout },
        };
        fleet.server_with("a", Script { actions: vec![says], ..Script::default() }, "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        let follow = |arguments: &[&str]| {
            let mut command = sandbox.program(daemon_program());
            command.arg("--config").arg(daemon.config()).args(arguments).stdout(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            (child, lines)
        };
        let (_logs, mut log_lines) = follow(&["logs", "-f", "a"]);
        let (_events, mut event_lines) = follow(&["events", "-f", "--json"]);
        daemon.command("a", "start?wait=50s").await.expect(200);
        for (lines, awaited) in [(&mut log_lines, "something new"), (&mut event_lines, "\"ReadyReached\"")] {
            let seen = timeout(WAIT_LIMIT, async {
                while let Some(line) = lines.next_line().await.unwrap() {
                    if line.contains(awaited) {
                        return true;
                    }
                }
                false
            });
            assert!(seen.await.expect(awaited), "the follower ended before {awaited}");
        }
    });
}

/// The commands `wait`, `start`, `stop`, `restart`, `logs`, `events` and `status`.
#[test]
fn the_command_line_drives_and_waits() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script { load_ms: 500, ..Script::default() });
        fleet.server_with("broken", Script::default(), "binary = \"/nonexistent\"");
        let daemon = sandbox.up(&fleet).await;
        let run = async |arguments: &[&str]| sandbox.run(daemon.config(), arguments).await;
        run(&["wait", "a"]).await.expect(0);
        let failed = run(&["wait", "broken"]).await.expect(3);
        let told = format!("{}{}", failed.stdout, failed.stderr);
        assert_eq!(told.matches("broken: failed").count(), 1, "a failure is told once: {told}");
        run(&["restart", "--wait", "a"]).await.expect(0);
        run(&["stop", "--wait", "a"]).await.expect(0);
        run(&["wait", "a", "--for", "stopped"]).await.expect(0);
        run(&["wait", "a", "--timeout", "200ms"]).await.expect(3);
        run(&["start", "--wait", "a"]).await.expect(0);
        run(&["start", "nobody"]).await.expect(2);
        let logs = run(&["logs", "a", "-n", "3"]).await.expect(0);
        assert_eq!(logs.stdout.lines().count(), 3, "{}", logs.stdout);
        let events = run(&["events", "--json"]).await.expect(0);
        assert!(events.stdout.lines().all(|line| serde_json::from_str::<llama_warden_events::Envelope>(line).is_ok()));
        let status = run(&["status", "--json"]).await.expect(0).json();
        assert_eq!((&status["total_servers"], &status["ready_servers"]), (&2.into(), &1.into()));
        let table = run(&["status"]).await.expect(0).stdout;
        assert!(table.contains("broken") && table.contains("failed") && !table.contains('\u{1b}'), "{table}");
    });
}
