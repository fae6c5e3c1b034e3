//! What a daemon leaves to the next one beside processes, and hand-overs that do not come about.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use llama_warden_events::Event;
use llama_warden_stand_in::{Script, ScriptAction, ScriptPhase, TermScript};
use llama_warden_tests::{DaemonOptions, Sandbox, TestDaemon, TestFleet, action_at, sandbox};
use nix::sys::signal::Signal;

/// A server that stays ready, one that a person stops, and one that is given up.
fn fleet(sandbox: &Sandbox) -> TestFleet {
    let mut fleet = sandbox.fleet();
    fleet.section("[restart]\ninitial-delay = \"10ms\"\nmax-delay = \"20ms\"\nmax-attempts = 1");
    let exits = action_at(ScriptPhase::Start, ScriptAction::Exit { code: 1, last_words: None });
    fleet.server("runs", Script::default()).server("stopped", Script::default());
    fleet.server("failed", Script { actions: vec![exits], ..Script::default() });
    fleet
}

async fn takes_over(sandbox: &Sandbox, fleet: &TestFleet, first: &TestDaemon) -> TestDaemon {
    let options = DaemonOptions { arguments: vec!["--take-over".to_owned()], ..DaemonOptions::default() };
    let next = sandbox.launch(fleet, &options);
    assert_eq!(first.exit_code().await, 0, "{}", first.log());
    next.answering().await;
    next
}

/// What was left down is known as before, and was not launched.
async fn assert_left_down(daemon: &TestDaemon) {
    daemon.ready("runs").await;
    let (stopped, failed) = (daemon.report("stopped").await, daemon.report("failed").await);
    assert_eq!((stopped.pid, failed.pid), (None, None));
    assert!(stopped.note.as_deref().is_some_and(|note| note.contains("by hand")), "{stopped:?}");
    assert!(failed.note.as_deref().is_some_and(|note| note.contains("given up")), "{failed:?}");
    for id in ["stopped", "failed"] {
        assert_eq!(daemon.count(id, "LaunchBegan").await, 0, "{id}");
    }
}

/// Fault S2: what has no process goes on too.
#[test]
fn a_take_over_in_the_background_returns_when_the_servers_are_known() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        for id in ["a", "b", "c"] {
            fleet.server(id, Script::default());
        }
        let config = fleet.write();
        sandbox.run(&config, ["up", "--detach"]).await.expect(0);
        sandbox.run(&config, ["wait", "--all", "--timeout", "60s"]).await.expect(0);
        let known = async || {
            let status = sandbox.run(&config, ["status", "--json"]).await.expect(0).json();
            let servers = status["servers"].as_array().expect("an array").clone();
            let state = |server: serde_json::Value| (server["pid"].clone(), server["is_ready"].clone());
            servers.into_iter().map(state).collect::<Vec<_>>()
        };
        let before = known().await;
        for _ in 0..3 {
            sandbox.run(&config, ["up", "--detach", "--take-over"]).await.expect(0);
            assert_eq!(known().await, before);
        }
        sandbox.run(&config, ["down"]).await.expect(0);
    });
}

#[test]
fn what_was_stopped_by_hand_or_given_up_stays_down_until_a_daemon_ends_in_order() {
    sandbox(async |sandbox| {
        let mut fleet = fleet(sandbox);
        let first = sandbox.up(&fleet).await;
        first.ready("runs").await;
        first.ready("stopped").await;
        first.event("one is given up", |event| event.event.kind() == "RestartAbandoned").await;
        first.command("stopped", "stop?wait=30s").await.expect(200);

        let second = takes_over(sandbox, &fleet, &first).await;
        assert_left_down(&second).await;

        second.signal(Signal::SIGKILL);
        second.exit().await;
        let third = sandbox.up(&fleet).await;
        assert_left_down(&third).await;
        third.command("stopped", "start?wait=30s").await.expect(200);
        third.command("stopped", "stop?wait=30s").await.expect(200);

        // Its new configuration may be the repair.
        third.signal(Signal::SIGKILL);
        third.exit().await;
        fleet.change("failed", "flags = { ctx-size = 4096 }");
        let fourth = sandbox.up(&fleet).await;
        fourth.failure("failed").await;
        assert_eq!(fourth.count("stopped", "LaunchBegan").await, 0);

        fourth.signal(Signal::SIGTERM);
        assert_eq!(fourth.exit_code().await, 0, "{}", fourth.log());
        let fifth = sandbox.up(&fleet).await;
        fifth.ready("stopped").await;
        fifth.failure("failed").await;
    });
}

#[test]
fn what_runs_outside_the_profile_of_the_next_daemon_runs_on() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[profiles.first]\nservers = [\"a\"]\n[profiles.second]\nservers = [\"b\"]");
        fleet.server("a", Script::default()).server("b", Script::default());
        let arguments = |profile: &str, more: &[&str]| DaemonOptions {
            arguments: [&format!("--profile={profile}")]
                .into_iter()
                .map(String::as_str)
                .chain(more.iter().copied())
                .map(str::to_owned)
                .collect(),
            ..DaemonOptions::default()
        };
        let first = sandbox.up_with(&fleet, &arguments("first", &[])).await;
        first.ready("a").await;
        let pid = first.report("a").await.pid;
        let next = sandbox.launch(&fleet, &arguments("second", &["--take-over"]));
        assert_eq!(first.exit_code().await, 0, "{}", first.log());
        next.answering().await;
        next.ready("a").await;
        next.ready("b").await;
        assert_eq!(next.report("a").await.pid, pid);
        // As before, a switch ends what its profile does not have.
        next.post("/api/v1/profiles/second/activate?wait=30s").await.expect(200);
        assert_eq!(next.report("a").await.pid, None);
    });
}

#[test]
fn a_second_shutdown_joins_the_first_and_a_second_hand_over_is_refused() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server_with(
            "a",
            Script { term: TermScript::Slow(1500), ..Script::default() },
            "stop = { grace = \"30s\" }",
        );
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        for _ in 0..3 {
            daemon.post("/api/v1/shutdown").await.expect(202);
        }
        let refused = daemon.post("/api/v1/shutdown?hand_over=1").await.expect(503);
        assert!(refused.text().contains("shutting down"), "{}", refused.text());
        let stopped = daemon.event("it is stopped", |event| event.event.kind() == "ServerStopped").await;
        assert!(matches!(stopped.event, Event::ServerStopped { forced: false, .. }), "{stopped:?}");
        assert_eq!(daemon.exit_code().await, 0, "{}", daemon.log());
        let events = daemon.event_stream().events();
        assert_eq!(events.iter().filter(|event| event.event.kind() == "SignalDelivered").count(), 1, "one TERM");
        assert_eq!(events.iter().filter(|event| event.event.kind() == "DaemonStopping").count(), 1);
    });
}

/// A control socket of a stranger, which answers `answer` to whoever asks.
fn stranger(fleet: &TestFleet, answer: &'static [u8]) -> std::path::PathBuf {
    fs::create_dir_all(fleet.state_dir()).expect("the sandbox can be written");
    let path = fleet.state_dir().join("control.sock");
    // Left by the one before.
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).expect("the path is short");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("accepted");
            // Whoever asks may be gone.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    path
}

/// Fault S4: another program, or another version, answers at the control socket.
#[test]
fn a_control_socket_that_answers_nonsense_gets_no_daemon_beside_it() {
    let answers: [&[u8]; 4] = [
        b"\xff\xfe nonsense \0",
        b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\xff{[\"",
        b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\ncontent-length: 2\r\n\r\n{}",
        b"",
    ];
    for answer in answers {
        sandbox(async |sandbox| {
            let mut fleet = sandbox.fleet();
            fleet.server("a", Script::default());
            let socket = stranger(&fleet, answer);
            let ran = sandbox.run(&fleet.write(), ["up", "--take-over"]).await.expect(1);
            assert!(ran.stderr.contains("does not hand over"), "{}", ran.stderr);
            let next = format!("else remove {}", socket.display());
            assert!(ran.stderr.contains("llama-warden down") && ran.stderr.contains(&next), "{}", ran.stderr);
            assert!(socket.exists(), "it is left alone");
            assert!(!fleet.state_dir().join("events.jsonl").exists(), "no daemon started");
        });
    }
}

#[test]
fn an_executable_by_another_name_takes_over() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let program = sandbox.file("fleet-of-mine");
        fs::rename(sandbox.copy_of_daemon(), &program).expect("the sandbox can be written");
        let first =
            sandbox.up_with(&fleet, &DaemonOptions { program: Some(program), ..DaemonOptions::default() }).await;
        first.ready("a").await;
        let pid = first.report("a").await.pid;
        let second = takes_over(sandbox, &fleet, &first).await;
        second.ready("a").await;
        assert_eq!(second.report("a").await.pid, pid);
    });
}

/// Fault S4: an order to one that does not answer would wait for it.
#[test]
fn a_daemon_that_was_stopped_while_the_next_one_gave_up_goes_on_afterwards() {
    sandbox(async |sandbox| {
        let (_, daemon) = sandbox.up_ready(&["a"]).await;
        let pid = daemon.report("a").await.pid;
        daemon.signal(Signal::SIGSTOP);
        let ran = sandbox.run(daemon.config(), ["up", "--take-over"]).await.expect(1);
        assert!(ran.stderr.contains("does not hand over"), "{}", ran.stderr);
        daemon.signal(Signal::SIGCONT);
        // An order that it had got before this one would be carried out before.
        daemon.command("a", "restart?wait=30s").await.expect(200);
        assert!(daemon.report("a").await.is_ready && daemon.report("a").await.pid != pid);
    });
}

#[test]
fn a_daemon_goes_on_if_the_next_one_could_not_listen_or_read_its_files() {
    sandbox(async |sandbox| {
        let (fleet, daemon) = sandbox.up_ready(&["a"]).await;
        let pid = daemon.report("a").await.pid;
        let toml = fs::read_to_string(daemon.config()).expect("it was written");
        let own = format!("127.0.0.1:{}", fleet.listen());
        assert!(toml.contains(&own), "{toml}");
        let strangers = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let taken = strangers.local_addr().expect("bound").to_string();
        let token = format!("[daemon]\ntoken-file = \"{}\"", sandbox.file("nosuch").display());
        let packs = sandbox.file("packs");
        fs::create_dir(&packs).expect("the sandbox can be written");
        fs::write(packs.join("bad.toml"), "name = 7").expect("the sandbox can be written");
        let packs = format!("[readiness]\ndetectors-dir = \"{}\"", packs.display());
        let other = sandbox.file("other.toml");
        let router = format!("[router]\nlisten = \"{taken}\"");
        // A daemon of another project does not give way either.
        let neighbours = sandbox.fleet_named("neighbours");
        sandbox.up(&neighbours).await;
        let theirs = toml.replace(&own, &format!("127.0.0.1:{}", neighbours.listen()));
        for (text, said) in [
            (toml.replace(&own, &taken), "listens there"),
            (theirs, "listens there"),
            (format!("{toml}\n{router}\n"), "the router cannot listen"),
            (toml.replacen("[daemon]", &token, 1), "nosuch"),
            (format!("{toml}\n{packs}\n"), "bad.toml"),
            // Its server would be ended for its new options, and not start with them.
            (format!("{toml}\n[flags]\nctx-sized = 5\n"), "ctx-sized"),
        ] {
            fs::write(&other, &text).expect("the sandbox can be written");
            let ran = sandbox.run(&other, ["up", "--take-over"]).await;
            assert!(matches!(ran.status.code(), Some(1 | 2)), "{ran:?}");
            assert!(ran.stderr.contains(said), "{said}: {}", ran.stderr);
            assert_eq!(daemon.report("a").await.pid, pid, "{said}");
        }
        assert!(daemon.report("a").await.is_ready);
    });
}
