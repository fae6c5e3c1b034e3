//! Another build beside a server: compared, cancelled, put in its place, and rolled back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use llama_warden_events::{BuildChange, CommandSummary, Event, Incarnation};
use llama_warden_stand_in::{Era, Renames, Script, ScriptAction, ScriptPhase};
use llama_warden_tests::{
    DaemonOptions, ProgramRun, Sandbox, TestDaemon, TestFleet, WAIT_LIMIT, action_at, daemon_program, eventually,
    executable, processes_with, sandbox, stand_in_program,
};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::process::{Child, Command};

/// A fleet with the server `a`, whose trials of other builds last a second.
fn fleet_of_one(sandbox: &Sandbox) -> TestFleet {
    let mut fleet = sandbox.fleet();
    fleet.server("a", Script::default()).section("[restart]\npolicy = \"on-failure\"\nstable-after = \"1s\"");
    fleet
}

/// Runs `canary a --binary BINARY` with more arguments.
fn canary(sandbox: &Sandbox, daemon: &TestDaemon, binary: &Path, more: &[&str]) -> Command {
    let mut command = sandbox.program(daemon_program());
    command.arg("--config").arg(daemon.config()).args(["canary", "a", "--binary"]).arg(binary).args(more);
    command
}

async fn report(sandbox: &Sandbox, daemon: &TestDaemon, binary: &Path, more: &[&str], code: i32) -> Value {
    let more = [more, &["--json"]].concat();
    ProgramRun::to_end(canary(sandbox, daemon, binary, &more)).await.expect(code).json()
}

/// A build that is well on any port but this one, as a build is that fails only in real use.
fn fails_on_port(sandbox: &Sandbox, port: u16) -> PathBuf {
    let stand_in = stand_in_program();
    let script = format!(
        "#!/bin/sh\ncase \" $* \" in *\" --port {port} \"*) echo 'no way' >&2; exit 7;; esac\nexec {} \"$@\"\n",
        stand_in.display()
    );
    let path = sandbox.file("fails-on-port");
    executable(&path, &script);
    path
}

/// What runs as `a`, by the first argument of its command line.
async fn program_of(daemon: &TestDaemon) -> String {
    daemon.server("a").await.argv.first().cloned().unwrap_or_default()
}

/// Nothing of a canary is there any more, and `a` was not touched.
async fn is_untouched(daemon: &TestDaemon) {
    assert_eq!(daemon.report("a").await.incarnation, Incarnation::new(1));
    assert!(daemon.report("a").await.is_ready);
    let status = daemon.status().await;
    assert_eq!(status.servers.len(), 1, "{status:?}");
}

#[test]
fn a_canary_is_compared_with_the_build_that_runs_and_leaves_nothing() {
    sandbox(async |sandbox| {
        let mut fleet = fleet_of_one(sandbox);
        fleet.section("[flags]\nctx-size = 512");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let new = sandbox.build(
            "new",
            &Script {
                renames: Renames::from([("--ctx-size", "--context-length")]),
                actions: vec![action_at(
                    ScriptPhase::Start,
                    ScriptAction::Say {
                        text: "0.00.001.000 W main: a new habit".to_owned(),
                        stream: Default::default(),
                    },
                )],
                ..Script::default()
            },
        );
        let report = report(sandbox, &daemon, &new, &["--prompt", "Hello & good bye"], 0).await;
        assert_eq!(report["outcome"]["result"], "passed", "{report:#}");
        for build in ["old", "new"] {
            assert_eq!(report[build]["completion"]["answer"], "tokens", "{report:#}");
            assert!(report[build]["startup_seconds"].is_number() && report[build]["memory_bytes"].is_number());
            assert_eq!(report[build]["version"], "b11669");
        }
        let option = &report["options"][0];
        assert_eq!(
            (&option["option"], &option["old"], &option["new"]),
            (&"ctx-size".into(), &"as written".into(), &"not passed".into())
        );
        assert_eq!(report["warnings"], serde_json::json!(["0.00.001.000 W main: a new habit"]));
        is_untouched(&daemon).await;
        let spawned = daemon.events_of("a~canary").await;
        let ports = spawned.iter().filter_map(|event| match event.event {
            Event::ServerSpawned { port, .. } => Some(port),
            _ => None,
        });
        assert!(ports.clone().count() == 1 && !ports.into_iter().any(|port| port == fleet.port("a")));

        let shown = ProgramRun::to_end(canary(sandbox, &daemon, &new, &[])).await.expect(0).stdout;
        for part in ["OLD", "NEW", "tokens/s", "ctx-size", "new warnings:"] {
            assert!(shown.contains(part), "{shown}");
        }
        daemon.command("a", "stop?wait=30s").await.expect(200);
        let alone = ProgramRun::to_end(canary(sandbox, &daemon, &new, &[])).await.expect(0).stdout;
        assert!(alone.contains("not running"), "{alone}");
        assert!(!daemon.report("a").await.is_running, "a server that was stopped stays down");
    });
}

#[test]
fn a_build_that_fails_is_told_with_its_reason_and_the_server_is_left_alone() {
    sandbox(async |sandbox| {
        let fleet = fleet_of_one(sandbox);
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let text = sandbox.file("text");
        fs::write(&text, "no program").expect("writable");
        let exit = ScriptAction::Exit { code: 3, last_words: Some("these are my last words".to_owned()) };
        let dying =
            sandbox.build("dying", &Script { actions: vec![action_at(ScriptPhase::Start, exit)], ..Script::default() });
        for (binary, reason, part) in [
            (sandbox.file("nowhere"), "binary-not-found", "nowhere"),
            (text, "binary-not-found", "text"),
            (dying, "exited-before-ready", "these are my last words"),
        ] {
            let told = ProgramRun::to_end(canary(sandbox, &daemon, &binary, &[])).await.expect(3).stderr;
            assert!(told.contains(&format!("the canary of a failed: {reason}")), "{told}");
            assert!(told.contains(part) && told.contains("next: "), "{told}");
            is_untouched(&daemon).await;
        }
        let unknown = sandbox.run(daemon.config(), ["canary", "b", "--binary", "x"]).await.expect(2).stderr;
        assert!(unknown.contains("there is no server `b`"), "{unknown}");
        let relative = daemon.command("a", "canary?binary=./x").await.expect(400).text();
        assert!(relative.contains("absolute"), "{relative}");
    });
}

#[test]
fn a_canary_that_does_not_fit_is_not_started_even_where_others_are_only_warned_of() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[start]\nmemory = \"warn\"");
        fleet.server_with("a", Script::default(), "flags = { ctx-size = 4000000000000 }");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let told = ProgramRun::to_end(canary(sandbox, &daemon, &stand_in_program(), &[])).await.expect(3).stderr;
        assert!(told.contains("stop the server that it stands beside") && told.contains("is available"), "{told}");
        assert_eq!(daemon.count("a~canary", "LaunchBegan").await, 0);
        is_untouched(&daemon).await;
    });
}

#[test]
fn a_canary_ends_with_its_client_and_there_is_one_at_a_time() {
    sandbox(async |sandbox| {
        let fleet = fleet_of_one(sandbox);
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let slow = sandbox.build("slow", &Script { load_ms: 60_000, ..Script::default() });
        let mut first = canary(sandbox, &daemon, &slow, &[]).spawn().expect("it starts");
        daemon
            .event("the canary runs", |event| {
                event.event.kind() == "ServerSpawned" && event.server.as_ref().is_some_and(|id| id.is_canary())
            })
            .await;
        let second = ProgramRun::to_end(canary(sandbox, &daemon, &slow, &[])).await.expect(1).stderr;
        assert!(second.contains("a canary of a is under way"), "{second}");
        first.kill().await.expect("it runs");
        daemon.event("the trial is over", |event| event.event.kind() == "CanaryCompleted").await;
        assert_eq!(daemon.exited("a~canary").await.server.as_ref().map(|id| id.as_str()), Some("a~canary"));
        is_untouched(&daemon).await;
    });
}

/// The client of a trial whose canary runs and loads for long.
async fn slow_trial(sandbox: &Sandbox, daemon: &TestDaemon) -> Child {
    let slow = sandbox.build("slow", &Script { load_ms: 60_000, ..Script::default() });
    let client = canary(sandbox, daemon, &slow, &[]).stderr(Stdio::piped()).spawn().expect("it starts");
    daemon
        .event("the canary runs", |event| {
            event.event.kind() == "ServerSpawned" && event.server.as_ref().is_some_and(|id| id.is_canary())
        })
        .await;
    client
}

#[test]
fn a_daemon_that_stops_takes_the_canary_along_and_says_so() {
    sandbox(async |sandbox| {
        let fleet = fleet_of_one(sandbox);
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let client = slow_trial(sandbox, &daemon).await;
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 0);
        let told = client.wait_with_output().await.expect("it ends");
        let text = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(!told.status.success() && text.contains("shutting down"), "{text}");
    });
}

#[test]
fn a_killed_daemon_leaves_no_canary_behind() {
    sandbox(async |sandbox| {
        let fleet = fleet_of_one(sandbox);
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let client = slow_trial(sandbox, &daemon).await;
        daemon.signal(Signal::SIGKILL);
        daemon.exit().await;
        let told = client.wait_with_output().await.expect("it ends");
        let text = String::from_utf8_lossy(&told.stderr).into_owned();
        assert!(!told.status.success() && text.contains("the daemon ended before the trial of a did"), "{text}");
        let home = sandbox.path().to_string_lossy().into_owned();
        eventually("every process is gone", WAIT_LIMIT, async || processes_with(&home).is_empty()).await;
        let next = sandbox.up(&fleet).await;
        next.ready("a").await;
        assert_eq!(next.status().await.servers.len(), 1);
    });
}

#[test]
fn a_build_that_proves_itself_takes_the_place_and_keeps_it_until_the_configuration_names_another() {
    sandbox(async |sandbox| {
        let mut fleet = fleet_of_one(sandbox);
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let before = program_of(&daemon).await;
        let new = sandbox.build("new", &Script::default());
        let told = ProgramRun::to_end(canary(sandbox, &daemon, &new, &["--switch"])).await.expect(0).stderr;
        assert!(told.contains("next: write `binary = "), "{told}");
        let new = new.display().to_string();
        assert_eq!(program_of(&daemon).await, new);
        assert_eq!(daemon.report("a").await.port, Some(fleet.port("a")), "clients find it where the old one was");
        // A reload that says nothing about it changes nothing.
        fleet.section("[logs]\nring = \"128KiB\"").write();
        daemon.post("/api/v1/reload?wait=30s").await.expect(200);
        assert_eq!(program_of(&daemon).await, new);
        daemon.signal(Signal::SIGTERM);
        daemon.exit().await;
        let next = sandbox.up(&fleet).await;
        next.ready("a").await;
        assert_eq!(program_of(&next).await, new);
        assert!(next.log().contains("another executable than configured"), "{}", next.log());
        let other = sandbox.build("other", &Script::default());
        fleet.binary(&other).write();
        next.post("/api/v1/reload?wait=30s").await.expect(200);
        assert_eq!(program_of(&next).await, other.display().to_string());
        assert_ne!(before, new);
    });
}

#[test]
fn a_build_that_fails_in_its_place_is_rolled_back() {
    sandbox(async |sandbox| {
        let fleet = fleet_of_one(sandbox);
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let old = program_of(&daemon).await;
        let failing = fails_on_port(sandbox, fleet.port("a"));
        let told = ProgramRun::to_end(canary(sandbox, &daemon, &failing, &["--switch"])).await.expect(3).stderr;
        assert!(
            told.contains("rolled back: exited-before-ready") && told.contains("old build is ready again"),
            "{told}"
        );
        assert_eq!(program_of(&daemon).await, old);
        assert!(daemon.report("a").await.is_ready);
        assert_eq!(daemon.status().await.servers.len(), 1);
    });
}

#[test]
fn a_daemon_that_is_killed_amid_a_trial_begins_with_the_old_build() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default()).section("[restart]\npolicy = \"on-failure\"\nstable-after = \"1h\"");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let old = program_of(&daemon).await;
        let new = sandbox.build("new", &Script::default());
        let client = canary(sandbox, &daemon, &new, &["--switch"]).spawn().expect("it starts");
        let tried = daemon.event("the new build is tried", |event| {
            matches!(
                &event.event,
                Event::CommandAccepted { command: CommandSummary::ChangeBuild { build: BuildChange::Try { .. } }, .. }
            )
        });
        let tried = tried.await.seq;
        daemon.event_after(tried, "it is ready", |event| event.event.kind() == "ReadyReached").await;
        assert_eq!(program_of(&daemon).await, new.display().to_string());
        daemon.signal(Signal::SIGKILL);
        daemon.exit().await;
        client.wait_with_output().await.expect("it ends");
        let next = sandbox.up_with(&fleet, &DaemonOptions::default()).await;
        next.ready("a").await;
        assert_eq!(program_of(&next).await, old);
    });
}

#[test]
fn a_build_takes_the_place_of_a_running_one_only() {
    sandbox(async |sandbox| {
        let fleet = fleet_of_one(sandbox);
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.command("a", "stop?wait=30s").await.expect(200);
        let new = sandbox.build_of(Era::default());
        let told = ProgramRun::to_end(canary(sandbox, &daemon, &new, &["--switch"])).await.expect(1).stderr;
        assert!(told.contains("start it first"), "{told}");
    });
}
