//! The daemon is killed at any moment, with every kind of process below it. Nothing may be left a second later.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes. A busy machine gets five seconds; what was measured is in
//! the list.

use std::path::PathBuf;
use std::time::Duration;

use llama_warden_stand_in::{Script, ScriptAction, ScriptPhase, TermScript};
use llama_warden_tests::{
    DaemonOptions, ProcessInfo, Sandbox, TestDaemon, TestFleet, WAIT_LIMIT, action_at, descendants, eventually,
    executable, is_root, measured, processes_with, sandbox, stand_in_program,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use crate::crash_moments::escaped_descendant;
use crate::unkillable::server_of_another_user;

const LIMIT: Duration = Duration::from_secs(5);

/// A llama-server by a shell script, in which `$S` is the stand-in.
fn wrapper(sandbox: &Sandbox, name: &str, script: &str) -> PathBuf {
    let text = format!("#!/bin/sh\nS='{}'\n{script}\n", stand_in_program().display());
    executable(&sandbox.file(&format!("{name}/llama-server")), &text)
}

/// A server, or what the daemon runs for it, of every kind that has ever been left behind. Returns what the command lines of the
/// descendants without environment contain.
fn every_kind(sandbox: &Sandbox, fleet: &mut TestFleet) -> String {
    let life_ms = fastrand::u64(40_000..60_000);
    let escaped = escaped_descendant(life_ms);
    let stubborn = |phase| Script {
        term: TermScript::Ignore,
        actions: vec![action_at(phase, ScriptAction::Spawn(escaped.clone()))],
        ..Script::default()
    };
    let answers = "case \"$1\" in --version|--help) exec \"$S\" \"$@\";; esac";
    let wrapped = [
        ("waits", format!("{answers}\n\"$S\" \"$@\"; exit 0")),
        ("session", format!("{answers}\nsetsid -w \"$S\" \"$@\"")),
        ("question", "(setsid sleep 300 &); sleep 300".to_owned()),
    ];
    for (id, script) in wrapped {
        let binary = wrapper(sandbox, id, &script);
        fleet.server_with(id, stubborn(ScriptPhase::Start), &format!("binary = \"{}\"", binary.display()));
    }
    fleet.server("escaped", stubborn(ScriptPhase::Ready));
    let hook = "hooks = { pre-start = [\"sh\", \"-c\", \"(setsid sleep 300 &); sleep 300\"], timeout = \"10m\" }";
    fleet.server_with("hook", Script::default(), hook);
    if is_root() {
        let binary = server_of_another_user(sandbox);
        fleet.server_with("user", Script::default(), &format!("binary = \"{}\"", binary.display()));
    }
    format!("\"life_ms\":{life_ms}")
}

/// Kills a daemon and `also`, and returns how long it took until none of its processes was left: neither of those that were below it,
/// nor of those that belong to the sandbox, nor of those with `trace` in their command line.
async fn kill_and_wait(sandbox: &Sandbox, daemon: &TestDaemon, also: Option<u32>, trace: &str) -> Duration {
    let home = sandbox.path().to_string_lossy().into_owned();
    let below = descendants(daemon.pid());
    daemon.signal(Signal::SIGKILL);
    if let Some(pid) = also {
        kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), Signal::SIGKILL).expect("it runs");
    }
    let killed = Instant::now();
    daemon.exit().await;
    let deadline = killed + LIMIT;
    loop {
        let known =
            below.iter().filter_map(|process| ProcessInfo::of(process.pid)).filter(|process| !process.is_zombie);
        let left: Vec<ProcessInfo> = known.chain(processes_with(&home)).chain(processes_with(trace)).collect();
        if left.is_empty() {
            return killed.elapsed();
        }
        assert!(Instant::now() < deadline, "left behind: {left:#?}");
        // await: the kernel sends no event when `/proc` changes.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Fault S24. `LLAMA_WARDEN_TEST_CRASHES` sets the number of rounds. The seed of the random moments is printed.
#[test]
fn whenever_the_daemon_is_killed_nothing_is_left() {
    let rounds = std::env::var("LLAMA_WARDEN_TEST_CRASHES").map_or(100, |rounds| rounds.parse().expect("a number"));
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut longest = Duration::ZERO;
    for _ in 0..rounds {
        let moment = Duration::from_micros(random.u64(0..1_000_000));
        sandbox(async |sandbox| {
            let mut fleet = sandbox.fleet();
            let trace = every_kind(sandbox, &mut fleet);
            let daemon = sandbox.launch(&fleet, &DaemonOptions::default());
            // await: the test kills at a random moment, not at an event.
            tokio::time::sleep(moment).await;
            longest = longest.max(kill_and_wait(sandbox, &daemon, None, &trace).await);
        });
    }
    measured("S24", "daemon killed at random moments, nothing left after", longest);
}

/// Faults S24 and S25: all kinds at once, and the guardian killed together with the daemon.
#[test]
fn nothing_of_any_kind_is_left_also_where_the_guardian_is_killed_too() {
    for with_guardian in [false, true] {
        sandbox(async |sandbox| {
            let mut fleet = sandbox.fleet();
            let trace = every_kind(sandbox, &mut fleet);
            let daemon = sandbox.up(&fleet).await;
            for id in ["waits", "session", "escaped"] {
                daemon.ready(id).await;
            }
            eventually("all descendants live", WAIT_LIMIT, async || processes_with(&trace).len() >= 3).await;
            let guardian = daemon.status().await.guardian.expect("it runs").pid;
            let took = kill_and_wait(sandbox, &daemon, with_guardian.then_some(guardian), &trace).await;
            measured(if with_guardian { "S25" } else { "S24" }, "daemon killed, no kind left after", took);
        });
    }
}

/// Fault S24.
#[test]
fn of_two_hundred_servers_none_is_left() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let ids: Vec<String> = (0..200).map(|number| format!("s{number}")).collect();
        for id in &ids {
            fleet.server(id, Script { term: TermScript::Ignore, ..Script::default() });
        }
        let daemon = sandbox.up(&fleet).await;
        for id in &ids {
            daemon.ready(id).await;
        }
        let took = kill_and_wait(sandbox, &daemon, None, "no such trace").await;
        measured("S24", "daemon of 200 servers killed, nothing left after", took);
    });
}
