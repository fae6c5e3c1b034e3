//! Launches that fail before there is a process, or right after it.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use llama_warden_events::{Envelope, Event, FailureReason};
use llama_warden_stand_in::{Era, Script, ScriptAction, ScriptPhase};
use llama_warden_state::PhaseName;
use llama_warden_tests::{TestDaemon, action_at, measured, sandbox};
use llama_warden_tiny_gguf::{Damage, TinyModel};
use nix::sys::stat::Mode;
use tokio::net::TcpListener;

/// Delays so long that the second look at what is missing hardly ever comes within a test, however the jitter falls.
const SLOW_LOOKS: &str = "[restart]\ninitial-delay = \"12h\"\nmax-delay = \"12h\"";

/// Asserts that the first launch failed for this reason before the spawn, and that there was no second one. Returns the
/// detail.
async fn assert_refused_before_spawn(daemon: &TestDaemon, id: &str, expected: FailureReason) -> String {
    let (reason, detail, _) = daemon.failure(id).await;
    assert_eq!(reason, expected, "{detail}");
    let events = daemon.events_of(id).await;
    let count = |kind: &str| events.iter().filter(|event| event.event.kind() == kind).count();
    assert_eq!((count("ServerSpawned"), count("ServerFailed"), count("LaunchBegan")), (0, 1, 1), "{id}");
    let report = daemon.report(id).await;
    // What is missing may appear: the next launch looks for it again.
    let phase = if expected.awaited().is_some() { PhaseName::BackingOff } else { PhaseName::Failed };
    assert_eq!((report.phase, report.pid), (phase, None));
    assert_eq!(report.last_failure.map(|failure| failure.reason), Some(expected));
    detail
}

fn elapsed(events: &[Envelope], kind: &str) -> Duration {
    events.iter().find(|event| event.event.kind() == kind).expect(kind).elapsed.as_duration()
}

/// Fault C1.
#[test]
fn what_is_no_executable_fails_at_once_and_before_the_spawn() {
    sandbox(async |sandbox| {
        let not_executable = sandbox.file("not-executable");
        fs::write(&not_executable, "#!/bin/sh\n").unwrap();
        let foreign = sandbox.file("foreign");
        // A 64-bit ELF header with a machine number that does not exist.
        let header = [b"\x7fELF\x02\x01\x01".as_slice(), &[0; 9], &[2, 0, 0xfe, 0xfe, 1, 0, 0, 0], &[0; 40]].concat();
        fs::write(&foreign, header).unwrap();
        fs::set_permissions(&foreign, fs::Permissions::from_mode(0o755)).unwrap();
        let directory = sandbox.file("directory");
        fs::create_dir(&directory).unwrap();
        let mut fleet = sandbox.fleet();
        fleet.section(SLOW_LOOKS);
        let cases = [
            ("missing", &sandbox.file("missing"), FailureReason::BinaryNotFound),
            ("plain", &not_executable, FailureReason::BinaryNotFound),
            ("foreign", &foreign, FailureReason::BinaryBroken),
            ("folder", &directory, FailureReason::BinaryNotFound),
        ];
        for (id, binary, _) in cases {
            fleet.server_with(id, Script::default(), &format!("binary = \"{}\"", binary.display()));
        }
        fleet.server("good", Script::default());
        let daemon = sandbox.up(&fleet).await;
        for (id, binary, reason) in cases {
            let detail = assert_refused_before_spawn(&daemon, id, reason).await;
            assert!(detail.contains(&*binary.to_string_lossy()), "{id}: {detail}");
            let events = daemon.events_of(id).await;
            let took = elapsed(&events, "ServerFailed") - elapsed(&events, "LaunchBegan");
            assert!(took < Duration::from_secs(2), "{id}: {took:?}");
            measured("C1", "refused after", took);
        }
        daemon.ready("good").await;
    });
}

/// Faults C1 and S23.
#[test]
fn what_is_no_model_fails_before_the_spawn() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section(SLOW_LOOKS);
        let fifo = sandbox.file("fifo.gguf");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let folder = sandbox.file("folder.gguf");
        fs::create_dir(&folder).unwrap();
        let text = sandbox.file("text.gguf");
        fs::write(&text, "a text").unwrap();
        fleet.server_of("missing", &sandbox.file("missing.gguf"), "");
        for (id, path) in [("fifo", &fifo), ("folder", &folder), ("text", &text)] {
            fleet.server_of(id, path, "");
        }
        let damages = [
            ("magic", Damage::WrongMagic),
            ("empty", Damage::Empty),
            ("future", Damage::FutureVersion),
            ("cut", Damage::HeaderCut),
        ];
        for (id, damage) in damages {
            let path = sandbox.file(&format!("{id}.gguf"));
            TinyModel::new(id).write_damaged(&path, damage).unwrap();
            fleet.server_of(id, &path, "");
        }
        let daemon = sandbox.up(&fleet).await;
        assert_refused_before_spawn(&daemon, "missing", FailureReason::ModelNotFound).await;
        for id in ["fifo", "folder", "text", "magic", "empty", "future", "cut"] {
            let detail = assert_refused_before_spawn(&daemon, id, FailureReason::ModelInvalid).await;
            assert!(detail.contains(".gguf"), "{id}: {detail}");
        }
    });
}

/// The daemon checks the header only; a fault in the weights is found in the output of llama-server.
#[test]
fn a_model_that_is_cut_off_in_its_weights_is_invalid_by_the_servers_own_words() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let path = sandbox.file("cut.gguf");
        TinyModel::new("cut").write_damaged(&path, Damage::WeightsCut).unwrap();
        fleet.server_of("cut", &path, "");
        let daemon = sandbox.up(&fleet).await;
        let (reason, detail, lines) = daemon.failure("cut").await;
        assert_eq!(reason, FailureReason::ModelInvalid, "{detail}");
        assert!(lines.iter().any(|line| line.contains("within the file bounds")), "{lines:?}");
    });
}

/// Fault C1.
#[test]
fn what_is_missing_at_the_start_is_found_when_it_appears_and_the_note_says_what_is_waited_for() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\ninitial-delay = \"20ms\"\nmax-delay = \"200ms\"\nmax-attempts = 1");
        let (binary, keys, folder) = (sandbox.file("late-binary"), sandbox.file("late-keys"), sandbox.file("late-run"));
        fleet.server("model", Script::default());
        fleet.server_with("binary", Script::default(), &format!("binary = \"{}\"", binary.display()));
        fleet.server_with("keys", Script::default(), &format!("api-key-file = \"{}\"", keys.display()));
        fleet.server_with("socket", Script::default(), &format!("host = \"{}/a.sock\"", folder.display()));
        let (model, late) = (fleet.model("model"), sandbox.file("late-model"));
        fs::rename(&model, &late).unwrap();
        let daemon = sandbox.up(&fleet).await;
        let cases = [
            ("model", FailureReason::ModelNotFound, "waits for its model"),
            ("binary", FailureReason::BinaryNotFound, "waits for its executable"),
            ("keys", FailureReason::FileNotFound, "waits for a file"),
            ("socket", FailureReason::AddressUnavailable, "waits for its address"),
        ];
        for (id, reason, _) in cases {
            let third = |event: &Envelope| {
                event.server.as_ref().is_some_and(|server| server.as_str() == id)
                    && matches!(event.event, Event::RestartScheduled { attempt: 3, max_attempts: None, .. })
            };
            daemon.event(&format!("{id} is looked at more often than attempts are allowed"), third).await;
            assert_eq!(daemon.failure(id).await.0, reason);
        }
        for (id, _, note) in cases {
            daemon
                .event_after(daemon.status().await.seq, "it waits again", |event| {
                    event.server.as_ref().is_some_and(|server| server.as_str() == id)
                        && matches!(event.event, Event::RestartScheduled { .. })
                })
                .await;
            let shown = daemon.report(id).await;
            // Between two looks there is a launch of a few milliseconds.
            let waits = shown.note.as_deref().is_some_and(|shown| shown.starts_with(note));
            assert!(waits || shown.phase == PhaseName::Launching, "{shown:?}");
        }
        fs::rename(&late, &model).unwrap();
        std::os::unix::fs::symlink(sandbox.build_of(Era::default()), &binary).unwrap();
        fs::write(&keys, "sk-late\n").unwrap();
        fs::create_dir(&folder).unwrap();
        for (id, ..) in cases {
            daemon.ready(id).await;
        }
    });
}

#[test]
fn an_executable_that_cannot_run_here_says_why_at_launch_and_in_which_and_runs_once_it_is_replaced() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\ninitial-delay = \"20ms\"\nmax-delay = \"100ms\"");
        let line = "llama-server: error while loading shared libraries: libggml.so: cannot open shared object file";
        let cases = [
            ("library", format!("#!/bin/sh\necho '{line}' >&2\nexit 127\n"), line),
            ("windows", "#!/bin/sh\r\necho hello\r\n".to_owned(), "line ends of Windows"),
            ("interpreter", "#!/no/such/shell\n".to_owned(), "needs /no/such/shell to run"),
        ];
        let path = |id: &str| sandbox.file(&format!("{id}-server"));
        let write = |id: &str, text: &str| {
            fs::write(path(id), text).unwrap();
            fs::set_permissions(path(id), fs::Permissions::from_mode(0o755)).unwrap();
        };
        for (id, text, _) in &cases {
            write(id, text);
            fleet.server_with(id, Script::default(), &format!("binary = \"{}\"", path(id).display()));
        }
        let daemon = sandbox.up(&fleet).await;
        for (id, _, expected) in &cases {
            let (reason, detail, _) = daemon.failure(id).await;
            assert_eq!(reason, FailureReason::BinaryBroken, "{detail}");
            assert!(detail.contains(expected), "{detail}");
            let which = sandbox.run(daemon.config(), ["detector", "which", &path(id).display().to_string()]).await;
            let told = which.expect(1).stderr;
            assert!(told.contains("cannot run here") && told.contains(expected), "{told}");
        }
        let good = sandbox.build_of(Era::default());
        for (id, ..) in &cases {
            write(id, &format!("#!/bin/sh\nexec {} \"$@\"\n", good.display()));
            daemon.ready(id).await;
        }
    });
}

#[test]
fn a_model_that_was_invalid_is_started_once_its_file_changes() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\ninitial-delay = \"20ms\"\nmax-delay = \"100ms\"");
        fleet.server("a", Script::default());
        let model = fleet.model("a");
        TinyModel::new("a").write_damaged(&model, Damage::HeaderCut).unwrap();
        let daemon = sandbox.up(&fleet).await;
        let abandoned = |event: &Envelope| matches!(event.event, Event::RestartAbandoned { .. });
        daemon.event("it is not tried again as it is", abandoned).await;
        let note = daemon.report("a").await.note.expect("it is down");
        assert!(note.contains("model-invalid") && note.contains("once the file changes"), "{note}");
        TinyModel::new("a").write(&model).unwrap();
        daemon.ready("a").await;
        assert_eq!(daemon.count("a", "LaunchBegan").await, 2);
    });
}

async fn serve_strangers(listener: TcpListener) {
    use tokio::io::AsyncWriteExt;
    while let Ok((mut stream, _)) = listener.accept().await {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}").await;
    }
}

/// Fault C32.
#[test]
fn a_stranger_on_the_port_is_never_taken_for_the_server() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let shares = format!("binary = \"{}\"", sandbox.build_of(Era::August2025).display());
        fleet.server_with("shares", Script { era: Era::August2025, ..Script::default() }, &shares);
        for id in ["a", "shares"] {
            let stranger = TcpListener::bind(("127.0.0.1", fleet.port(id))).await.unwrap();
            tokio::spawn(serve_strangers(stranger));
        }
        let daemon = sandbox.up(&fleet).await;
        for id in ["a", "shares"] {
            let detail = assert_refused_before_spawn(&daemon, id, FailureReason::PortInUse).await;
            assert!(detail.contains(&fleet.port(id).to_string()), "{detail}");
        }
    });
}

/// Fault C47.
#[test]
fn a_server_on_the_port_of_another_one_is_refused_before_the_spawn_even_if_its_build_shares_ports() {
    sandbox(async |sandbox| {
        let build = sandbox.build_of(Era::August2025);
        let script = || Script { era: Era::August2025, ..Script::default() };
        let mut first = sandbox.fleet_named("first");
        first.binary(&build).server("a", script());
        let mut second = sandbox.fleet_named("second");
        second.binary(&build).server_with("b", script(), &format!("port = {}", first.port("a")));
        let first = sandbox.up(&first).await;
        first.ready("a").await;
        let pid = first.report("a").await.pid;
        let second = sandbox.up(&second).await;
        assert_refused_before_spawn(&second, "b", FailureReason::PortInUse).await;
        let report = first.report("a").await;
        assert_eq!((report.is_ready, report.pid), (true, pid));
    });
}

#[test]
fn a_unix_socket_is_shown_by_its_path_and_refused_for_a_build_that_has_none() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let socket = sandbox.file("a.sock");
        fleet.server_with("a", Script::default(), &format!("host = \"{}\"", socket.display()));
        let old = sandbox.build_of(Era::November2024);
        let keys = format!("host = \"{}\"\nbinary = \"{}\"", sandbox.file("old.sock").display(), old.display());
        fleet.server_with("old", Script { era: Era::November2024, ..Script::default() }, &keys);
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let report = daemon.report("a").await;
        assert_eq!((report.port, report.host.as_str()), (None, socket.to_str().unwrap()));
        let status = sandbox.run(daemon.config(), ["status"]).await;
        assert!(status.stdout.contains(report.host.as_str()), "{}", status.stdout);
        assert!(!status.stdout.contains(&fleet.port("a").to_string()), "{}", status.stdout);
        let detail = assert_refused_before_spawn(&daemon, "old", FailureReason::BadArgument).await;
        assert!(detail.contains("this build cannot listen on a unix socket"), "{detail}");
        assert_eq!(daemon.count("old", "RestartScheduled").await, 0);
    });
}

/// Fault C47, within one configuration.
#[test]
fn one_port_for_two_servers_is_an_error_of_the_configuration() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let port = fleet.port("a");
        fleet.server_with("b", Script::default(), &format!("port = {port}"));
        let checked = sandbox.run(&fleet.write(), ["check"]).await.expect(2);
        assert!(checked.stderr.contains(&port.to_string()), "{}", checked.stderr);
        let up = sandbox.run(&fleet.path(), ["up"]).await.expect(2);
        assert!(up.stderr.contains(&port.to_string()), "{}", up.stderr);
    });
}

/// Faults C2, C3 and C44.
#[test]
fn an_exit_before_ready_is_a_failure_that_quotes_the_last_line() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let exits = |code, words: Option<&str>, silent| {
            let last_words = words.map(str::to_owned);
            Script {
                silent,
                actions: vec![action_at(ScriptPhase::Start, ScriptAction::Exit { code, last_words })],
                ..Script::default()
            }
        };
        fleet.server("zero", exits(0, None, true));
        fleet.server("words", exits(1, Some("the end of the line without a newline"), true));
        fleet.server("silent", exits(1, None, true));
        let daemon = sandbox.up(&fleet).await;
        for (id, expected) in
            [("zero", None), ("words", Some("the end of the line without a newline")), ("silent", None)]
        {
            let (reason, detail, lines) = daemon.failure(id).await;
            assert_eq!(reason, FailureReason::ExitedBeforeReady, "{id}: {detail}");
            assert_eq!(lines.last().map(String::as_str), expected, "{id}");
            daemon.exited(id).await;
            assert_eq!(daemon.count(id, "ReadyReached").await, 0, "{id}");
            assert_eq!(daemon.report(id).await.phase, PhaseName::Failed, "{id}");
        }
    });
}

/// A start that waits gets 502 with the reason of the failure.
#[test]
fn a_start_that_fails_is_answered_with_the_reason() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server_of("a", Path::new("/nonexistent/a.gguf"), "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        let answer = daemon.command("a", "start?wait=30s").await.expect(502);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.json()["reason"], "model-not-found");
        let wait = sandbox.run(daemon.config(), ["start", "a", "--wait"]).await.expect(3);
        assert!(wait.stderr.contains("/nonexistent/a.gguf"), "{}", wait.stderr);
        let launches = daemon.events_of("a").await;
        assert_eq!(launches.iter().filter(|event| matches!(event.event, Event::LaunchBegan { .. })).count(), 2);
    });
}
