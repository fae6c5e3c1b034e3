//! The guardian, which forks a parent for each program, is killed or stopped. Servers do not notice.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::collections::BTreeMap;
use std::time::Duration;

use llama_warden_api_types::{GuardianReport, StatusReport};
use llama_warden_events::FailureReason;
use llama_warden_stand_in::{Grandchild, Script, ScriptAction, ScriptPhase};
use llama_warden_tests::{
    DaemonOptions, ProcessInfo, TestDaemon, WAIT_LIMIT, action_at, descendants, eventually, is_root,
    kill_with_guardian_and_shims, measured, processes_with, sandbox,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

use crate::crash_moments::escaped_descendant;
use crate::unkillable::server_of_another_user;

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), signal).expect("it runs");
}

async fn guardian(daemon: &TestDaemon) -> GuardianReport {
    // Published by the launcher, beside the daemon's own first event.
    daemon.event("the guardian is known", |event| event.event.kind() == "GuardianStarted").await;
    daemon.status().await.guardian.expect("it is known")
}

/// Kills the guardian, and waits for the next one.
async fn replaced(daemon: &TestDaemon, before: GuardianReport) -> GuardianReport {
    let seq = daemon.status().await.seq;
    send(before.pid, Signal::SIGKILL);
    let killed = Instant::now();
    daemon.event_after(seq, "another guardian runs", |event| event.event.kind() == "GuardianStarted").await;
    measured("S25", "guardian killed, another one after", killed.elapsed());
    guardian(daemon).await
}

fn pids(status: &StatusReport) -> BTreeMap<String, Option<u32>> {
    status.servers.iter().map(|server| (server.model_id.to_string(), server.pid)).collect()
}

/// Fault S25.
#[test]
fn a_killed_guardian_is_replaced_and_shown_while_servers_stay_ready() {
    sandbox(async |sandbox| {
        let (fleet, daemon) = sandbox.up_ready(&["a", "b"]).await;
        let (servers, mut before) = (pids(&daemon.status().await), guardian(&daemon).await);
        assert_eq!(before.restarts, 0);
        assert_eq!(ProcessInfo::of(before.pid).expect("it runs").parent, daemon.pid());
        for restarts in 1..=2 {
            let after = replaced(&daemon, before).await;
            assert_eq!(after.restarts, restarts);
            assert_eq!(ProcessInfo::of(after.pid).expect("it runs").parent, daemon.pid());
            before = after;
        }
        let status = daemon.status().await;
        assert_eq!((status.ready_servers, pids(&status)), (2, servers));
        let shown = sandbox.run(&fleet.path(), ["status"]).await.expect(0);
        assert!(shown.stdout.contains("guardian restarts: 2"), "{}", shown.stdout);
        assert!(daemon.metrics().await.contains("llama_warden_guardian_restarts_total 2"));
        // What runs is still told to stop, and what is to be run is run.
        daemon.command("a", "restart?wait=50s").await.expect(200);
        daemon.command("b", "stop?wait=50s").await.expect(200);
    });
}

/// Fault S25: nobody restarts what is only slow, and somebody has stopped this one for good.
#[test]
fn a_stopped_guardian_is_replaced_once_a_launch_needs_it() {
    sandbox(async |sandbox| {
        let (_, daemon) = sandbox.up_ready(&["a", "b"]).await;
        let (servers, before) = (pids(&daemon.status().await), guardian(&daemon).await);
        send(before.pid, Signal::SIGSTOP);
        // By the shim that it has forked in advance.
        daemon.command("a", "restart?wait=50s").await.expect(200);
        assert_eq!(guardian(&daemon).await, before);
        let asked = Instant::now();
        daemon.command("a", "restart?wait=50s").await.expect(200);
        measured("S25", "restart of a server under a stopped guardian", asked.elapsed());
        let (status, after) = (daemon.status().await, guardian(&daemon).await);
        assert_eq!((after.restarts, status.ready_servers), (1, 2));
        assert_eq!(pids(&status)["b"], servers["b"]);
        // It was killed before the next one began, but the kernel ends it when it gets to it.
        eventually("the stopped one is gone", WAIT_LIMIT, async || ProcessInfo::of(before.pid).is_none()).await;
    });
}

/// The shims of a guardian that run no program: the one that it has forked in advance.
fn spares(guardian: u32, daemon: &TestDaemon) -> Vec<u32> {
    let below = descendants(daemon.pid());
    let has_child = |pid: u32| below.iter().any(|process| process.parent == pid);
    let is_spare = |process: &&ProcessInfo| process.parent == guardian && !process.is_zombie && !has_child(process.pid);
    below.iter().filter(is_spare).map(|process| process.pid).collect()
}

/// Fault S25: the shim that waits for the next program is killed; and it is replaced after each use.
#[test]
fn one_shim_waits_for_the_next_program_and_may_be_killed() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let guardian = guardian(&daemon).await;
        let one = async || {
            eventually("one waits", WAIT_LIMIT, async || spares(guardian.pid, &daemon).len() == 1).await;
            spares(guardian.pid, &daemon)[0]
        };
        let first = one().await;
        daemon.command("a", "restart?wait=50s").await.expect(200);
        let shim = ProcessInfo::of(pids(&daemon.status().await)["a"].expect("it runs")).expect("it runs").parent;
        assert_eq!(shim, first, "it runs the next program");
        send(one().await, Signal::SIGKILL);
        daemon.command("a", "restart?wait=50s").await.expect(200);
        assert_eq!(self::guardian(&daemon).await.restarts, 0, "the guardian did nothing wrong");
        one().await;
    });
}

/// Fault S7: the guardian has no descriptor for the socket of the next shim.
#[test]
fn a_launch_under_a_guardian_without_descriptors_says_so_and_is_tried_again() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\ninitial-delay = \"100ms\"\nmax-delay = \"100ms\"\nmax-attempts = 1000");
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let guardian = guardian(&daemon).await;
        let limit = async |descriptors: &str| {
            let mut prlimit = sandbox.program("prlimit");
            prlimit.args(["--pid", &guardian.pid.to_string(), &format!("--nofile={descriptors}:4096")]);
            assert!(prlimit.status().await.expect("util-linux is there").success());
        };
        limit("3").await;
        // The first one is run by the shim that is there already.
        daemon.command("a", "restart?wait=50s").await.expect(200);
        daemon.command("a", "restart").await.expect(202);
        let (reason, detail, _) = daemon.failure("a").await;
        assert_eq!(reason, FailureReason::SpawnFailed, "{detail}");
        assert!(detail.contains("no free descriptor"), "{detail}");
        let seq = daemon.status().await.seq;
        limit("1024").await;
        daemon.event_after(seq, "it is ready", |event| event.event.kind() == "ReadyReached").await;
        assert_eq!(self::guardian(&daemon).await.restarts, 0);
    });
}

/// Fault S25: the end of a stopped guardian is not waited for, since each server has a parent of its own.
#[test]
fn servers_end_with_their_daemon_also_under_a_stopped_or_killed_guardian() {
    for signal in [Signal::SIGSTOP, Signal::SIGKILL] {
        sandbox(async |sandbox| {
            let mut fleet = sandbox.fleet();
            let life_ms = fastrand::u64(40_000..60_000);
            let escaped = escaped_descendant(life_ms);
            let spawns = action_at(ScriptPhase::Start, ScriptAction::Spawn(escaped));
            fleet.server("a", Script { actions: vec![spawns], ..Script::default() });
            let daemon = sandbox.up(&fleet).await;
            daemon.ready("a").await;
            let grandchild = format!("\"life_ms\":{life_ms}");
            eventually("it has a descendant", WAIT_LIMIT, async || !processes_with(&grandchild).is_empty()).await;
            let guardian = guardian(&daemon).await;
            send(guardian.pid, signal);
            daemon.signal(Signal::SIGKILL);
            let killed = Instant::now();
            daemon.exit().await;
            let home = sandbox.path().to_string_lossy().into_owned();
            eventually("nothing is left", Duration::from_secs(5), async || {
                processes_with(&home).is_empty() && processes_with(&grandchild).is_empty()
            })
            .await;
            measured("S25", &format!("daemon killed and guardian {signal}, nothing left after"), killed.elapsed());
            if signal == Signal::SIGSTOP {
                send(guardian.pid, Signal::SIGKILL);
            }
        });
    }
}

/// Fault S25: the parent-death signal ends the servers themselves, and the next start the rest.
#[test]
fn a_start_after_daemon_guardian_and_shims_were_killed_at_once_is_clean() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let keeps = |detach| {
            let kept = Grandchild { life_ms: 60_000, detach, ignore_term: true, ..Grandchild::default() };
            Script { actions: vec![action_at(ScriptPhase::Ready, ScriptAction::Spawn(kept))], ..Script::default() }
        };
        fleet.server("group", keeps(false)).server("session", keeps(true));
        let mut ids = vec!["group", "session"];
        if is_root() {
            let binary = server_of_another_user(sandbox);
            fleet.server_with("user", Script::default(), &format!("binary = \"{}\"", binary.display()));
            ids.push("user");
        }
        let daemon = sandbox.up_with(&fleet, &DaemonOptions::default()).await;
        for id in &ids {
            daemon.ready(id).await;
        }
        let leaders: Vec<u32> = daemon.status().await.servers.iter().filter_map(|server| server.pid).collect();
        let kept = || processes_with("--stand-in-grandchild");
        let home = sandbox.path().to_string_lossy().into_owned();
        let ours = || processes_with(&home).into_iter().filter(|process| kept().contains(process)).count();
        eventually("the descendants live", WAIT_LIMIT, async || ours() >= 2).await;
        let below: Vec<ProcessInfo> = descendants(daemon.pid());
        kill_with_guardian_and_shims(daemon.pid());
        daemon.exit().await;
        eventually("the servers end", WAIT_LIMIT, async || {
            leaders.iter().filter(|pid| is_alive(**pid)).count() <= usize::from(is_root())
        })
        .await;
        let next = sandbox.up(&fleet).await;
        let left: Vec<&ProcessInfo> = below.iter().filter(|process| is_alive(process.pid)).collect();
        assert!(left.is_empty(), "before anything is launched: {left:?}");
        for id in &ids {
            next.ready(id).await;
        }
    });
}

fn is_alive(pid: u32) -> bool {
    ProcessInfo::of(pid).is_some_and(|process| !process.is_zombie)
}
