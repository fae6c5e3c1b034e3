//! Signals to the daemon, and its exit codes.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::time::Duration;

use llama_warden_events::{Envelope, Event};
use llama_warden_stand_in::{Script, TermScript};
use llama_warden_tests::{Sandbox, TestDaemon, TestFleet, WAIT_LIMIT, eventually, measured, sandbox};
use nix::sys::signal::Signal;
use tokio::time::Instant;

/// Starts a daemon whose server ignores TERM for a grace of an hour, and signals the daemon once.
async fn stopping(sandbox: &Sandbox, signal: Signal) -> TestDaemon {
    let mut fleet = sandbox.fleet();
    stubborn(&mut fleet);
    let daemon = sandbox.up(&fleet).await;
    daemon.ready("a").await;
    daemon.signal(signal);
    daemon.event("TERM is sent", |event| matches!(event.event, Event::SignalDelivered { .. })).await;
    daemon
}

fn stubborn(fleet: &mut TestFleet) {
    fleet.server_with("a", Script { term: TermScript::Ignore, ..Script::default() }, "stop = { grace = \"1h\" }");
    fleet.daemon("shutdown-deadline = \"1h\"");
}

/// Fault S8.
#[test]
fn the_first_term_or_int_is_a_graceful_stop() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        sandbox(async |sandbox| {
            let mut fleet = sandbox.fleet();
            fleet.server("a", Script::default()).server("loading", Script { load_ms: 60_000, ..Script::default() });
            let daemon = sandbox.up(&fleet).await;
            daemon.ready("a").await;
            daemon.signal(signal);
            assert_eq!(daemon.exit_code().await, 0, "{signal}");
        });
    }
}

/// Fault S8.
#[test]
fn the_second_term_or_int_kills_and_shows_in_the_exit_code() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        sandbox(async |sandbox| {
            let daemon = stopping(sandbox, signal).await;
            let insisted = Instant::now();
            daemon.signal(signal);
            assert_eq!(daemon.exit_code().await, code, "{signal}");
            measured("S8", "second signal, ended after", insisted.elapsed());
            assert!(insisted.elapsed() < Duration::from_secs(10), "{:?}", insisted.elapsed());
        });
    }
}

/// Fault S8.
#[test]
fn quit_kills_at_once() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        stubborn(&mut fleet);
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let asked = Instant::now();
        daemon.signal(Signal::SIGQUIT);
        assert_eq!(daemon.exit_code().await, 128 + 3);
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    });
}

/// Fault S8.
#[test]
fn signals_that_mean_nothing_to_the_daemon_do_nothing() {
    sandbox(async |sandbox| {
        let (_, daemon) = sandbox.up_ready(&["a"]).await;
        let pid = daemon.report("a").await.pid;
        daemon.signal(Signal::SIGPIPE);
        (0..500).for_each(|_| daemon.signal(Signal::SIGCHLD));
        let report = daemon.report("a").await;
        assert_eq!((report.pid, report.is_ready), (pid, true));
        daemon.command("a", "restart?wait=50s").await.expect(200);
    });
}

/// Sends a signal by its number to the daemon; the real-time signals have no name in nix.
async fn send(daemon: &TestDaemon, number: i32) {
    let command = format!("kill -{number} {}", daemon.pid());
    let status = tokio::process::Command::new("sh").args(["-c", &command]).status().await;
    assert!(status.expect("a shell").success(), "{command}");
}

/// Faults S8 and S32: by default each of them would end the process, and every server with it.
#[test]
fn signals_without_a_meaning_are_ignored_with_a_warning() {
    sandbox(async |sandbox| {
        let (_, daemon) = sandbox.up_ready(&["a"]).await;
        let pid = daemon.report("a").await.pid;
        // TRAP, ALRM, STKFLT, XCPU, XFSZ, VTALRM, PROF, IO, and some real-time signals.
        for number in [5, 14, 16, 24, 25, 26, 27, 29, 36, 40, 64] {
            send(&daemon, number).await;
            let name = llama_warden_events::Signal::from_number(number).expect("in range");
            let warned = format!("signal={name}");
            eventually("it is warned of", WAIT_LIMIT, async || daemon.log().contains(&warned)).await;
        }
        let report = daemon.report("a").await;
        assert_eq!((report.pid, report.is_ready), (pid, true));
    });
}

/// Faults S8 and S32: PWR, and RTMIN+3 by which systemd asks the first process of a container.
#[test]
fn a_power_failure_and_the_halt_of_a_container_are_a_graceful_stop() {
    for number in [30, 37] {
        sandbox(async |sandbox| {
            let mut fleet = sandbox.fleet();
            fleet.server("a", Script::default());
            let daemon = sandbox.up(&fleet).await;
            daemon.ready("a").await;
            send(&daemon, number).await;
            assert_eq!(daemon.exit_code().await, 0, "{number}");
            let log = daemon.log();
            assert!(log.contains("daemon stops every server") && !log.contains("ShutDown"), "{log}");
        });
    }
}

/// Faults S8 and S32: tools that rotate logs move the file away and send one of these.
#[test]
fn usr1_and_usr2_reopen_the_event_log() {
    sandbox(async |sandbox| {
        let daemon = sandbox.up(&sandbox.fleet()).await;
        let log = daemon.state_dir().join("events.jsonl");
        for signal in [Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGHUP] {
            eventually("there are events", WAIT_LIMIT, async || log.exists()).await;
            std::fs::rename(&log, log.with_extension("moved")).expect("it is there");
            daemon.signal(signal);
            eventually("the log is back", WAIT_LIMIT, async || log.exists()).await;
        }
        // The harness compares whole event logs of daemons that end well.
        daemon.signal(Signal::SIGKILL);
        daemon.exit().await;
    });
}

/// Fault S8: a second signal is no grace that is over.
#[test]
fn a_second_signal_is_not_told_as_a_grace_that_is_over() {
    sandbox(async |sandbox| {
        let daemon = stopping(sandbox, Signal::SIGINT).await;
        daemon.signal(Signal::SIGINT);
        assert_eq!(daemon.exit_code().await, 130);
        let log = daemon.log();
        assert!(log.contains("as requested") && !log.contains("did not end in its grace"), "{log}");
    });
}

/// Fault S8: a daemon without a terminal reads HUP as a request to reload.
#[test]
fn a_hang_up_without_a_terminal_is_a_reload() {
    sandbox(async |sandbox| {
        let (_, daemon) = sandbox.up_ready(&["a"]).await;
        let pid = daemon.report("a").await.pid;
        daemon.signal(Signal::SIGHUP);
        let reloaded = |event: &Envelope| matches!(&event.event, Event::ConfigurationReloaded { trigger } if trigger == "signal HUP");
        daemon.event("it is reloaded", reloaded).await;
        assert_eq!(daemon.report("a").await.pid, pid);
    });
}

/// Fault S9.
#[test]
fn nothing_is_launched_once_the_daemon_stops() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        stubborn(&mut fleet);
        fleet.server_with("off", Script::default(), "enabled = false");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.signal(Signal::SIGTERM);
        daemon.event("it stops", |event| event.event.kind() == "DaemonStopping").await;
        for command in ["start", "restart"] {
            let answer = daemon.command("off", command).await.expect(503);
            assert_eq!(answer.json()["reason"], "shutting-down");
        }
        assert_eq!(daemon.count("off", "LaunchBegan").await, 0);
        daemon.get("/readyz").await.expect(503);
        daemon.get("/livez").await.expect(200);
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 143);
    });
}

/// Fault S9: TERM in the middle of many launches.
#[test]
fn a_term_amid_launches_leaves_nothing() {
    for _ in 0..3 {
        sandbox(async |sandbox| {
            let mut fleet = sandbox.fleet();
            (0..12).for_each(|slot| {
                fleet.server(&format!("s{slot}"), Script { load_ms: 60_000, ..Script::default() });
            });
            let daemon = sandbox.up(&fleet).await;
            daemon.event("the first process", |event| matches!(event.event, Event::ServerSpawned { .. })).await;
            daemon.signal(Signal::SIGTERM);
            assert_eq!(daemon.exit_code().await, 0);
        });
    }
}

/// Fault S19: servers that still run near the shutdown deadline are killed.
#[test]
fn a_shutdown_ends_by_its_deadline() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server_with("a", Script { term: TermScript::Ignore, ..Script::default() }, "stop = { grace = \"1h\" }");
        fleet.daemon("shutdown-deadline = \"5s\"");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let asked = Instant::now();
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 0);
        measured("S19", "shutdown with a deadline of 5 s ended after", asked.elapsed());
        assert!(asked.elapsed() < Duration::from_secs(5 + 5), "{:?}", asked.elapsed());
    });
}
