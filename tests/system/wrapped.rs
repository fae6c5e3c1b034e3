//! Servers behind wrappers, and the questions and hooks that the daemon runs: all of their processes end with them.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::path::PathBuf;
use std::time::Duration;

use llama_warden_events::Event;
use llama_warden_stand_in::{ScheduledAction, Script, ScriptAction, ScriptPhase};
use llama_warden_tests::{
    DaemonOptions, Sandbox, TestDaemon, WAIT_LIMIT, eventually, executable, is_root, measured, processes_with, sandbox,
    stand_in_program,
};
use nix::sys::signal::Signal;
use tokio::time::Instant;

use crate::unkillable::server_of_another_user;

/// A wrapper that answers questions with `question`, and runs the stand-in by `server`, in which `$S` is its path.
fn wrapper(sandbox: &Sandbox, question: &str, server: &str) -> PathBuf {
    let program = stand_in_program();
    let script =
        format!("#!/bin/sh\nS='{}'\ncase \"$1\" in --version|--help) {question};; esac\n{server}\n", program.display());
    executable(&sandbox.file(&format!("wrapper{}/llama-server", fastrand::u32(..))), &script)
}

const ANSWERS: &str = "exec \"$S\" \"$@\"";

/// Kills the daemon and waits until nothing of the sandbox runs.
async fn kill_daemon(sandbox: &Sandbox, daemon: &TestDaemon, code: &str) {
    let killed = Instant::now();
    daemon.signal(Signal::SIGKILL);
    daemon.exit().await;
    let home = sandbox.path().to_string_lossy().into_owned();
    eventually("nothing is left", Duration::from_secs(5), async || processes_with(&home).is_empty()).await;
    measured(code, "daemon killed, nothing left after", killed.elapsed());
}

/// Fault C48: the server takes a second to stop, and leaves a mark only if it was given that long.
#[test]
fn a_server_behind_a_wrapper_gets_term_and_its_grace() {
    let wrappers = [
        ("waits", "\"$S\" \"$@\"; exit 0"),
        ("pipes", "\"$S\" \"$@\" 2>&1 | cat"),
        ("session", "setsid -w \"$S\" \"$@\""),
        ("background", "\"$S\" \"$@\" & wait"),
    ];
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        for (id, server) in wrappers {
            let mark = ScriptAction::Dump { path: sandbox.file(&format!("{id}.mark")) };
            let actions = vec![ScheduledAction { at: ScriptPhase::Stopping, after_ms: 1000, action: mark }];
            let binary = wrapper(sandbox, ANSWERS, server);
            fleet.server_with(
                id,
                Script { actions, ..Script::default() },
                &format!("binary = \"{}\"", binary.display()),
            );
        }
        let daemon = sandbox.up(&fleet).await;
        for (id, _) in wrappers {
            daemon.ready(id).await;
            daemon.command(id, "stop?wait=50s").await.expect(200);
            assert!(sandbox.file(&format!("{id}.mark")).exists(), "{id} had its grace");
            let events = daemon.events_of(id).await;
            let forced = events.iter().any(|event| matches!(event.event, Event::ServerStopped { forced: true, .. }));
            assert!(!forced, "{id}");
        }
    });
}

/// Fault C49: a question leaves processes behind, in its group and in a session of its own.
#[test]
fn what_a_question_leaves_behind_is_gone_when_the_server_is_ready() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let life = fastrand::u32(10_000..20_000);
        let question = format!("(sleep {life} &); (setsid sleep {life} &); {ANSWERS}");
        fleet.binary(&wrapper(sandbox, &question, ANSWERS)).server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let left = || processes_with(&format!("sleep\0{life}"));
        eventually("nothing of the questions is left", WAIT_LIMIT, async || left().is_empty()).await;
    });
}

/// Fault C49: a question that never ends is given up, and ends with the daemon.
#[test]
fn a_question_that_hangs_ends_with_the_daemon() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        sandbox(async |sandbox| {
            let mut fleet = sandbox.fleet();
            let asked = sandbox.file("asked");
            let question = format!("(setsid sleep 300 &); touch {}; sleep 300", asked.display());
            fleet.binary(&wrapper(sandbox, &question, ANSWERS)).server("a", Script::default());
            let daemon = sandbox.up(&fleet).await;
            eventually("it is asked", WAIT_LIMIT, async || asked.exists()).await;
            if signal == Signal::SIGKILL {
                kill_daemon(sandbox, &daemon, "C49").await;
            } else {
                daemon.signal(signal);
                assert_eq!(daemon.exit_code().await, 0);
            }
        });
    }
}

/// Fault C50.
#[test]
fn a_hook_and_what_it_started_end_with_the_daemon() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let runs = sandbox.file("runs");
        let hook = format!("(setsid sleep 300 &); echo run >> {}; sleep 300", runs.display());
        let keys = format!("hooks = {{ pre-start = [\"sh\", \"-c\", \"{hook}\"], timeout = \"10m\" }}");
        fleet.server_with("a", Script::default(), &keys);
        let count = || std::fs::read_to_string(&runs).unwrap_or_default().lines().count();
        for run in 1..=2 {
            let daemon = sandbox.up(&fleet).await;
            eventually("the hook runs", WAIT_LIMIT, async || count() == run).await;
            kill_daemon(sandbox, &daemon, "C50").await;
        }
    });
}

/// Fault C51: the kernel forgets the parent-death signal of a process that changes its user.
#[test]
fn a_server_that_changed_its_user_is_swept_at_a_stop_and_ends_with_the_daemon() {
    if !is_root() {
        return;
    }
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.binary(&server_of_another_user(sandbox)).server("a", Script::default());
        let daemon = sandbox.up_with(&fleet, &DaemonOptions::default()).await;
        daemon.ready("a").await;
        daemon.command("a", "restart?wait=50s").await.expect(200);
        daemon.command("a", "stop?wait=50s").await.expect(200);
        assert_eq!(daemon.status().await.running_servers, 0);
        daemon.command("a", "start?wait=50s").await.expect(200);
        kill_daemon(sandbox, &daemon, "C51").await;
        let next = sandbox.up(&fleet).await;
        next.ready("a").await;
    });
}
