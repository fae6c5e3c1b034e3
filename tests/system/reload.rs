//! A changed configuration is applied by its difference, or refused as a whole.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use llama_warden_events::{Envelope, Event, FailureReason, SwitchPlan};
use llama_warden_stand_in::{HealthScript, Script, ScriptAction, ScriptPhase, TermScript};
use llama_warden_tests::{Sandbox, TestDaemon, TestFleet, WAIT_LIMIT, action_at, eventually, sample, sandbox};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// A fleet of servers a and b.
fn two_servers(sandbox: &Sandbox) -> TestFleet {
    let mut fleet = sandbox.fleet();
    fleet.server_with("a", Script::default(), "flags = { ctx-size = 1111 }").server("b", Script::default());
    fleet
}

/// Replaces the configuration in one step.
fn rewrite(fleet: &TestFleet, toml: &str) {
    let new = fleet.path().with_extension("rewritten");
    std::fs::write(&new, toml).and_then(|()| std::fs::rename(&new, fleet.path())).expect("the sandbox can be written");
}

/// The plans of all reloads so far that start, stop or restart a server.
fn plans(daemon: &TestDaemon) -> Vec<SwitchPlan> {
    let plans = daemon.event_stream().events().into_iter().filter_map(|event| match event.event {
        Event::SwitchPlanned { plan } => Some(*plan),
        _ => None,
    });
    plans.filter(|plan| !(plan.start.is_empty() && plan.stop.is_empty() && plan.restart.is_empty())).collect()
}

fn names(ids: &[llama_warden_events::ServerId]) -> Vec<&str> {
    ids.iter().map(|id| id.as_str()).collect()
}

fn is_reload(event: &Envelope) -> bool {
    matches!(event.event, Event::ConfigurationReloaded { .. })
}

#[test]
fn a_changed_flag_restarts_just_that_server() {
    sandbox(async |sandbox| {
        let fleet = two_servers(sandbox);
        let daemon = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        let before = (daemon.report("a").await.pid, daemon.report("b").await.pid);
        rewrite(&fleet, &fleet.toml().replace("1111", "2222"));
        daemon.post("/api/v1/reload?wait=50s").await.expect(200);
        let after = (daemon.report("a").await.pid, daemon.report("b").await.pid);
        assert!(after.0.is_some() && after.0 != before.0, "{before:?} {after:?}");
        assert_eq!(after.1, before.1);
        assert!(daemon.server("a").await.argv.iter().any(|argument| argument == "2222"));
        assert_eq!(plans(&daemon).iter().map(|plan| names(&plan.restart)).collect::<Vec<_>>(), [["a"]]);
    });
}

#[test]
fn the_file_is_watched() {
    sandbox(async |sandbox| {
        let fleet = two_servers(sandbox);
        let daemon = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        rewrite(&fleet, &fleet.toml().replace("1111", "2222"));
        let reloaded = daemon.event("it is reloaded", is_reload).await;
        assert!(matches!(reloaded.event, Event::ConfigurationReloaded { trigger } if trigger.contains("warden.toml")));
        daemon
            .event_after(reloaded.seq, "a is ready again", |event| matches!(event.event, Event::ReadyReached { .. }))
            .await;
        assert!(daemon.server("a").await.argv.iter().any(|argument| argument == "2222"));
    });
}

/// Fault S26.
#[test]
fn a_bad_configuration_changes_nothing_and_says_why() {
    sandbox(async |sandbox| {
        let fleet = two_servers(sandbox);
        let daemon = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        let before = daemon.status().await;
        let bad = fleet.toml().replace("1111", "2222") + "\ngrase = 1\n[stop]\ngrace = 1\n";
        rewrite(&fleet, &bad);
        let answer = daemon.post("/api/v1/reload").await.expect(422).json();
        let detail = answer["detail"].as_str().expect("a detail");
        assert!(detail.contains("grase") && detail.contains("stop.grace"), "every problem: {detail}");
        let refused = |event: &Envelope| matches!(event.event, Event::ConfigurationRefused { .. });
        daemon.event("the refusal is an event", refused).await;
        let ran = sandbox.run(daemon.config(), ["--address", &address(&daemon), "reload"]).await.expect(2);
        assert!(ran.stderr.contains("grase"), "{}", ran.stderr);
        let status = daemon.status().await;
        assert!(status.configuration_refused.is_some_and(|why| why.contains("grase")));
        let shown = sandbox.run(daemon.config(), ["--address", &address(&daemon), "status"]).await.expect(0).stdout;
        assert!(shown.contains("grase") && shown.contains("llama-warden check"), "{shown}");
        let pids = |servers: &[llama_warden_api_types::ServerReport]| servers.iter().map(|s| s.pid).collect::<Vec<_>>();
        assert_eq!(pids(&status.servers), pids(&before.servers));
        assert!(plans(&daemon).is_empty() && !daemon.event_stream().events().iter().any(is_reload));
        assert!(daemon.log().contains("grase"), "the log says it too");
        // A corrected file is applied, and the status no longer reports the refusal.
        rewrite(&fleet, &fleet.toml());
        daemon.post("/api/v1/reload?wait=50s").await.expect(200);
        assert_eq!(daemon.status().await.configuration_refused, None);
    });
}

fn address(daemon: &TestDaemon) -> String {
    format!("unix:{}", daemon.state_dir().join("control.sock").display())
}

#[test]
fn a_removed_server_is_stopped_and_loses_its_series_and_a_new_one_starts() {
    sandbox(async |sandbox| {
        let fleet = two_servers(sandbox);
        let daemon = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        let a = daemon.report("a").await.pid;
        let up = sample(&daemon.metrics().await, "llama_warden_server_running", &[("server", "b")]);
        assert_eq!(up, Some(1.0));
        rewrite(&fleet, &fleet.toml().replace("id = \"b\"", "id = \"c\""));
        let answer = sandbox.run(daemon.config(), ["reload", "--wait", "--json"]).await.expect(0).json();
        assert_eq!(answer["status"]["total_servers"], 2);
        daemon.event("b is forgotten", |event| matches!(event.event, Event::ServerRemoved)).await;
        let status = daemon.status().await;
        let servers: Vec<_> = status.servers.iter().map(|server| (server.model_id.as_str(), server.is_ready)).collect();
        assert_eq!(servers, [("a", true), ("c", true)]);
        let metrics = daemon.metrics().await;
        assert!(!metrics.contains("server=\"b\"") && metrics.contains("server=\"c\""));
        assert_eq!(daemon.report("a").await.pid, a);
        daemon.get("/api/v1/servers/b").await.expect(404);
    });
}

/// Fault S34.
#[test]
fn a_server_that_leaves_and_comes_back_starts_at_once_every_time() {
    sandbox(async |sandbox| {
        let fleet = two_servers(sandbox);
        let daemon = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        let a = daemon.report("a").await.pid;
        let (whole, renamed) = (fleet.toml(), fleet.toml().replace("id = \"b\"", "id = \"c\""));
        let without = format!("{}\n", &whole[..whole.rfind("[[servers]]").expect("it has servers")]);
        for (launch, absent) in [(2, &renamed), (3, &without), (4, &renamed), (5, &without)] {
            rewrite(&fleet, absent);
            daemon.post("/api/v1/reload?wait=50s&force=1").await.expect(200);
            daemon.get("/api/v1/servers/b").await.expect(404);
            rewrite(&fleet, &whole);
            daemon.post("/api/v1/reload?wait=50s").await.expect(200);
            let back = daemon.report("b").await;
            assert_eq!((back.is_ready, back.incarnation.get()), (true, launch));
        }
        assert_eq!(daemon.report("a").await.pid, a);
        assert!(!daemon.event_stream().events().iter().any(|event| matches!(event.event, Event::ServerFailed { .. })));
    });
}

/// Fault S34.
/// The removal and the return come while the server stops.
#[test]
fn a_server_that_comes_back_before_it_is_gone_starts_once_it_is() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default()).server("b", Script { term: TermScript::Slow(1500), ..Script::default() });
        let daemon = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        let whole = fleet.toml();
        rewrite(&fleet, &whole.replace("id = \"b\"", "id = \"c\""));
        daemon.post("/api/v1/reload").await.expect(202);
        rewrite(&fleet, &whole);
        daemon.post("/api/v1/reload?wait=50s").await.expect(200);
        let back = daemon.report("b").await;
        assert_eq!((back.is_ready, back.incarnation.get()), (true, 2));
    });
}

#[test]
fn a_server_that_a_person_started_runs_on_when_a_comment_is_added() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default()).server_with("b", Script::default(), "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.command("b", "start?wait=50s").await.expect(200);
        let before = (daemon.report("a").await.pid, daemon.report("b").await.pid);
        for text in [fleet.toml() + "# a comment\n", fleet.toml().replace("[restart]", "[restart]\nmax-attempts = 7")] {
            rewrite(&fleet, &text);
            daemon.post("/api/v1/reload?wait=50s").await.expect(200);
            assert_eq!((daemon.report("a").await.pid, daemon.report("b").await.pid), before);
        }
        rewrite(&fleet, &fleet.toml().replace("enabled = false", "enabled = true"));
        daemon.post("/api/v1/reload?wait=50s").await.expect(200);
        assert_eq!(daemon.report("b").await.pid, before.1);
        rewrite(&fleet, &fleet.toml());
        daemon.post("/api/v1/reload?wait=50s").await.expect(200);
        assert_eq!(daemon.report("b").await.pid, before.1, "a person asked for it");
    });
}

/// Faults C8 and C23: nothing but its stall timeout ends a server that is frozen while it loads.
#[test]
fn a_reload_waits_for_a_frozen_server_that_it_keeps_until_its_stall_timeout_and_no_longer() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\npolicy = \"never\"\n[stop]\ngrace = \"200ms\"");
        let frozen = Script { load_ms: 120_000, health: HealthScript::Status(503), ..Script::default() };
        fleet.server_with("frozen", frozen, "readiness = { timeout = \"1s\", stall-timeout = \"4s\" }");
        let daemon = sandbox.up(&fleet).await;
        let progress = |event: &Envelope| matches!(event.event, Event::LoadProgressed { .. });
        // A person asks for it, so that it is kept by the reload that disables it.
        daemon.command("frozen", "start").await.expect(202);
        daemon.event("it says that it loads", progress).await;
        let pid = daemon.report("frozen").await.pid.expect("it runs");
        kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), Signal::SIGSTOP).expect("ours");
        rewrite(&fleet, &fleet.toml().replace("id = \"frozen\"", "id = \"frozen\"\nenabled = false"));
        let answer = daemon.post("/api/v1/reload?wait=50s").await.expect(200).json();
        assert_eq!((&answer["keep"], &answer["restart"]), (&json!(["frozen"]), &json!([])), "{answer}");
        let (reason, detail, _) = daemon.failure("frozen").await;
        assert_eq!(reason, FailureReason::Stalled, "{detail}");
        let passed = |event: &Envelope| matches!(&event.event, Event::ServerWarned { warning, .. } if warning.as_str() == "loading-past-cap");
        daemon.event("it has passed its cap meanwhile", passed).await;
    });
}

#[test]
fn servers_without_a_port_keep_theirs_when_others_come_and_go_and_no_stranger_is_in_their_way() {
    sandbox(async |sandbox| {
        let stranger = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let busy = stranger.local_addr().expect("it is bound").port().min(60_000);
        let mut fleet = sandbox.fleet();
        fleet.llama_server(&format!("first-port = {busy}"));
        fleet.server_with("a", Script::default(), "# port").server_with("b", Script::default(), "# port");
        let daemon = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        let ports = async |daemon: &TestDaemon| (daemon.report("a").await.port, daemon.report("b").await.port);
        let before = (ports(&daemon).await, daemon.report("a").await.pid, daemon.report("b").await.pid);
        assert!(before.0.0 > Some(busy) && before.0.1 > before.0.0, "{before:?}");
        // Another one before them.
        let first = "[[servers]]\nid = \"first\"\nmodel = \"/nowhere.gguf\"\nenabled = false\n[[servers]]\nid = \"a\"";
        rewrite(&fleet, &fleet.toml().replace("[[servers]]\nid = \"a\"", first));
        daemon.post("/api/v1/reload?wait=50s").await.expect(200);
        assert_eq!((ports(&daemon).await, daemon.report("a").await.pid, daemon.report("b").await.pid), before);
        // The next daemon gives the same ports, although the lowest is free now.
        drop(stranger);
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 0);
        let daemon = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        assert_eq!(ports(&daemon).await, before.0);
    });
}

#[test]
fn a_server_without_a_port_moves_when_a_stranger_has_its_own_and_one_with_a_port_does_not() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        // Without a single restart: the move is none.
        fleet.section("[restart]\ninitial-delay = \"10ms\"\nmax-attempts = 0");
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let first_port = free.local_addr().expect("it is bound").port().min(60_000);
        drop(free);
        fleet.llama_server(&format!("first-port = {first_port}"));
        fleet.server_with("a", Script::default(), "# port").server("b", Script::default());
        let daemon = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        let port = async |id: &str| daemon.report(id).await.port.expect("it has one");
        let (before, fixed) = (port("a").await, port("b").await);
        for id in ["a", "b"] {
            daemon.command(id, "stop?wait=50s").await.expect(200);
        }
        let strangers =
            [before, fixed].map(|port| std::net::TcpListener::bind(("127.0.0.1", port)).expect("it is free"));
        for id in ["a", "b"] {
            daemon.command(id, "start?wait=50s").await.expect(502);
        }
        eventually("it runs elsewhere", WAIT_LIMIT, async || daemon.report("a").await.is_ready).await;
        let after = port("a").await;
        assert_ne!(after, before);
        let failed = daemon.report("b").await;
        let failure = failed.last_failure.expect("it failed");
        assert_eq!((failure.reason, failed.port, failed.is_running), (FailureReason::PortInUse, Some(fixed), false));
        // It stays there: in this run, after a reload, and in the next run.
        drop(strangers);
        daemon.post("/api/v1/reload?wait=50s").await.expect(200);
        daemon.command("a", "restart?wait=50s").await.expect(200);
        assert_eq!(port("a").await, after);
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 0);
        let daemon = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        assert_eq!(daemon.report("a").await.port, Some(after));
    });
}

/// After `up --server a`, a reload does not start server b.
#[test]
fn a_reload_starts_nothing_that_was_left_out_on_purpose() {
    sandbox(async |sandbox| {
        let fleet = two_servers(sandbox);
        let arguments = ["--server", "a"].map(str::to_owned).to_vec();
        let options = llama_warden_tests::DaemonOptions { arguments, ..Default::default() };
        let daemon = sandbox.up_with(&fleet, &options).await;
        daemon.ready("a").await;
        daemon.get("/readyz").await.expect(200);
        daemon.post("/api/v1/reload?wait=50s").await.expect(200);
        assert_eq!(daemon.count("b", "LaunchBegan").await, 0);
    });
}

/// Fault S20.
#[test]
fn a_reload_while_a_server_starts_holds_for_its_next_launch() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server_with("a", Script { load_ms: 60_000, ..Script::default() }, "flags = { ctx-size = 1111 }");
        let daemon = sandbox.up(&fleet).await;
        // The stand-in has read its script by then, so that the new one is for the next launch.
        let first = daemon.event("it loads", |event| matches!(event.event, Event::LoadProgressed { .. })).await;
        fleet.rewrite("a", &Script::default());
        rewrite(&fleet, &fleet.toml().replace("1111", "2222"));
        daemon.post("/api/v1/reload?wait=50s").await.expect(200);
        assert!(daemon.server("a").await.argv.iter().any(|argument| argument == "2222"));
        let ready = daemon.ready("a").await;
        assert!(ready.incarnation > first.incarnation);
        daemon.command("a", "stop?wait=50s").await.expect(200);
    });
}

/// Fault S20.
#[test]
fn a_reload_while_a_server_crash_loops_holds_for_its_next_launch_and_loses_no_stop() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\ninitial-delay = \"300ms\"\nmax-delay = \"300ms\"\nmax-attempts = 1000");
        let crash = action_at(ScriptPhase::Loading, ScriptAction::Exit { code: 7, last_words: None });
        let crashing = Script { load_ms: 60_000, actions: vec![crash], ..Script::default() };
        fleet.server_with("a", crashing.clone(), "flags = { ctx-size = 1111 }");
        fleet.server_with("b", crashing, "flags = { ctx-size = 1111 }");
        let daemon = sandbox.up(&fleet).await;
        for id in ["a", "b"] {
            daemon
                .event(&format!("{id} crash-loops"), |event| {
                    event.server.as_ref().is_some_and(|server| server.as_str() == id)
                        && matches!(event.event, Event::RestartScheduled { .. })
                })
                .await;
        }
        // The stop of b races with the change of both; the watch of the file triggers a second reload.
        rewrite(&fleet, &fleet.toml().replace("1111", "2222"));
        fleet.rewrite("a", &Script::default());
        let (reload, stop) = tokio::join!(daemon.post("/api/v1/reload"), daemon.command("b", "stop?wait=30s"));
        reload.expect(202);
        stop.expect(200);
        let ready = daemon.ready("a").await;
        assert!(ready.incarnation.is_some_and(|launch| launch.get() > 1));
        assert!(daemon.server("a").await.argv.iter().any(|argument| argument == "2222"));
        let before = daemon.count("b", "LaunchBegan").await;
        daemon.post("/api/v1/reload?wait=30s").await.expect(200);
        assert_eq!(daemon.count("b", "LaunchBegan").await, before, "a stopped server stays down");
        assert!(!daemon.report("b").await.is_running);
        daemon.command("b", "start").await.expect(202);
        daemon
            .event_after(ready.seq, "b is launched", |event| {
                event.server.as_ref().is_some_and(|server| server.as_str() == "b")
                    && matches!(&event.event, Event::ServerSpawned { argv, .. } if argv.iter().any(|argument| argument == "2222"))
            })
            .await;
    });
}
