//! The harness itself: what a daemon must not leave behind would be found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use llama_warden_stand_in::{Grandchild, Script, ScriptAction, ScriptPhase};
use llama_warden_tests::{PATIENCE, Process, Sandbox, action_at, eventually, processes_with, stage};
use nix::sys::signal::Signal;

/// What the stage says of a test.
fn verdict(test: impl AsyncFnOnce(&Sandbox)) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| stage(test))).err()?;
    Some(panic.downcast_ref::<String>().expect("a panic with a message").clone())
}

#[test]
fn a_process_that_is_left_behind_fails_the_test() {
    let verdict = verdict(async |stage| {
        let mut fleet = stage.fleet();
        // It left its group before the daemon died without a chance to sweep.
        let escaped = Grandchild { life_ms: 50_000, detach: true, hold_pipe: false, ..Grandchild::default() };
        fleet.server(
            "a",
            Script { actions: vec![action_at(ScriptPhase::Ready, ScriptAction::Spawn(escaped))], ..Script::default() },
        );
        let daemon = stage.up(&fleet).await;
        daemon.ready("a").await;
        let home = stage.path().to_string_lossy().into_owned();
        eventually("it has escaped", PATIENCE, async || {
            processes_with(&home).iter().any(|process| process.command.contains("--stand-in-grandchild"))
        })
        .await;
        daemon.signal(Signal::SIGKILL);
        daemon.exit().await;
    });
    let verdict = verdict.expect("something was left behind");
    assert!(verdict.contains("is left:") && verdict.contains("--stand-in-grandchild"), "{verdict}");
}

#[test]
fn a_daemon_that_ends_unasked_fails_the_test() {
    let verdict = verdict(async |stage| {
        let mut fleet = stage.fleet();
        fleet.server("a", Script::default());
        let daemon = stage.up(&fleet).await;
        daemon.ready("a").await;
        daemon.signal(Signal::SIGQUIT);
        eventually("it is gone", PATIENCE, async || Process::of(daemon.pid()).is_none()).await;
    });
    let verdict = verdict.expect("the daemon ended");
    assert!(verdict.contains("ended by itself"), "{verdict}");
}
