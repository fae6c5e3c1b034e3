//! The harness itself: a test fails when something is left behind.

use std::panic::{AssertUnwindSafe, catch_unwind};

use llama_warden_stand_in::{Grandchild, Script, ScriptAction, ScriptPhase};
use llama_warden_tests::{
    ProcessInfo, ProgramRun, Sandbox, WAIT_LIMIT, action_at, eventually, ignores, kill_with_guardian_and_shims,
    processes_with, sandbox,
};
use nix::sys::signal::Signal;

/// The panic message of a test that fails in its sandbox; `None` if it passes.
fn failure(test: impl AsyncFnOnce(&Sandbox)) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| sandbox(test))).err()?;
    Some(panic.downcast_ref::<String>().expect("a panic with a message").clone())
}

#[test]
fn a_process_that_is_left_behind_fails_the_test() {
    let failure = failure(async |sandbox| {
        let mut fleet = sandbox.fleet();
        // It leaves its process group, and nobody is left to sweep it.
        let escaped = Grandchild { life_ms: 50_000, detach: true, hold_pipe: false, ..Grandchild::default() };
        fleet.server(
            "a",
            Script { actions: vec![action_at(ScriptPhase::Ready, ScriptAction::Spawn(escaped))], ..Script::default() },
        );
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let home = sandbox.path().to_string_lossy().into_owned();
        eventually("it has escaped", WAIT_LIMIT, async || {
            processes_with(&home).iter().any(|process| process.command.contains("--stand-in-grandchild"))
        })
        .await;
        kill_with_guardian_and_shims(daemon.pid());
        daemon.exit().await;
    });
    let failure = failure.expect("something was left behind");
    assert!(failure.contains("is left:") && failure.contains("--stand-in-grandchild"), "{failure}");
}

/// Also where this test inherits that INT is ignored: `sh -c 'trap "" INT; cargo nextest run …'`.
#[test]
fn a_program_under_test_can_be_interrupted() {
    sandbox(async |sandbox| {
        let mut command = sandbox.program("cat");
        command.arg("/proc/self/status");
        let status = ProgramRun::to_end(command).await.expect(0).stdout;
        assert!(!ignores(&status, Signal::SIGINT), "{status}");
    });
}

#[test]
fn a_daemon_that_ends_unasked_fails_the_test() {
    let failure = failure(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.signal(Signal::SIGQUIT);
        eventually("it is gone", WAIT_LIMIT, async || ProcessInfo::of(daemon.pid()).is_none()).await;
    });
    let failure = failure.expect("the daemon ended");
    assert!(failure.contains("ended by itself"), "{failure}");
}
