//! Servers that start processes of their own. None of these may outlive its server.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::time::Duration;

use llama_warden_events::{Envelope, Event};
use llama_warden_stand_in::{Grandchild, ScheduledAction, Script, ScriptAction, ScriptPhase, Stream};
use llama_warden_tests::{
    ProcessInfo, TestDaemon, TestFleet, WAIT_LIMIT, action_at, after_ready, descendants, eventually, measured,
    processes_with, sandbox,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

fn exits_leaving(grandchild: Grandchild) -> Script {
    let leave = ScheduledAction {
        at: ScriptPhase::Ready,
        after_ms: 500,
        action: ScriptAction::Exit { code: 3, last_words: None },
    };
    Script { actions: vec![action_at(ScriptPhase::Ready, ScriptAction::Spawn(grandchild)), leave], ..Script::default() }
}

fn keeps(grandchild: Grandchild) -> Script {
    Script { actions: vec![action_at(ScriptPhase::Ready, ScriptAction::Spawn(grandchild))], ..Script::default() }
}

/// The number of living processes with the launch tag of server `id`.
fn alive(fleet: &TestFleet, id: &str) -> usize {
    let launch = format!("/{id}/");
    let marked = processes_with("LLAMA_WARDEN_LAUNCH=").into_iter().filter(|process| {
        let environment = std::fs::read(format!("/proc/{}/environ", process.pid)).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        environment.contains(&launch) && environment.contains(&*fleet.path().parent().unwrap().to_string_lossy())
    });
    marked.count()
}

fn swept(exited: &Envelope) -> u32 {
    match exited.event {
        Event::ServerExited { swept, .. } => swept,
        _ => unreachable!("an exit was waited for"),
    }
}

async fn stopped(daemon: &TestDaemon, id: &str) {
    daemon.command(id, "stop?wait=50s").await.expect(200);
}

/// Faults C24, C26 and C27.
#[test]
fn what_a_dead_server_leaves_is_swept_whatever_it_holds() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let life_ms = 60_000;
        let cases = [
            ("pipe", Grandchild { life_ms, ..Grandchild::default() }),
            ("chatty", Grandchild { life_ms, chat_every_ms: Some(10), ignore_term: true, ..Grandchild::default() }),
            ("escaped", Grandchild { life_ms, detach: true, ..Grandchild::default() }),
            (
                "chatty-escaped",
                Grandchild {
                    life_ms,
                    detach: true,
                    chat_every_ms: Some(10),
                    ignore_term: true,
                    ..Grandchild::default()
                },
            ),
            ("port", Grandchild { life_ms, hold_port: true, hold_pipe: false, ..Grandchild::default() }),
        ];
        for (id, grandchild) in &cases {
            fleet.server(id, exits_leaving(grandchild.clone()));
        }
        let daemon = sandbox.up(&fleet).await;
        for (id, _) in &cases {
            let exited = daemon.exited(id).await;
            assert_eq!(swept(&exited), 1, "{id}");
            assert_eq!(alive(&fleet, id), 0, "{id}");
            // A new launch proves that the port and the pipe are free again.
            fleet.rewrite(id, &Script::default());
            daemon.command(id, "start?wait=50s").await.expect(200);
        }
    });
}

/// Faults C28 and C18.
#[test]
fn a_descendant_that_left_environment_and_session_is_swept_too() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let escaped =
            |life_ms| Grandchild { life_ms, detach: true, scrub_env: true, ignore_term: true, ..Grandchild::default() };
        let lives: Vec<u64> = (0..2).map(|_| fastrand::u64(40_000..60_000)).collect();
        let cases = [
            ("silent", Grandchild { hold_pipe: false, ..escaped(lives[0]) }),
            ("chatty", Grandchild { chat_every_ms: Some(10), ..escaped(lives[1]) }),
        ];
        for (id, grandchild) in &cases {
            fleet.server(id, exits_leaving(grandchild.clone()));
        }
        let daemon = sandbox.up(&fleet).await;
        for (id, grandchild) in &cases {
            let exited = daemon.exited(id).await;
            assert_eq!(swept(&exited), 1, "{id}");
            let left = processes_with(&format!("\"life_ms\":{}", grandchild.life_ms));
            assert!(left.is_empty(), "{id}: {left:?}");
            let report = daemon.report(id).await;
            assert_eq!((report.is_running, report.pid), (false, None), "{id}");
            fleet.rewrite(id, &Script::default());
            daemon.command(id, "start?wait=50s").await.expect(200);
        }
    });
}

/// Fault C25.
#[test]
fn a_stop_returns_only_when_the_grandchildren_are_gone() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let stubborn = Grandchild { count: 3, life_ms: 60_000, ignore_term: true, ..Grandchild::default() };
        fleet
            .server("group", keeps(stubborn.clone()))
            .server("session", keeps(Grandchild { detach: true, ..stubborn }));
        let daemon = sandbox.up(&fleet).await;
        for id in ["group", "session"] {
            daemon.ready(id).await;
            eventually("three grandchildren live", WAIT_LIMIT, async || alive(&fleet, id) == 4).await;
            stopped(&daemon, id).await;
            assert_eq!(alive(&fleet, id), 0, "{id}");
            assert_eq!(swept(&daemon.exited(id).await), 3, "{id}");
        }
    });
}

/// Fault C31.
#[test]
fn a_server_that_becomes_another_program_is_still_supervised() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let exec = ScriptAction::Exec { argv: ["sleep", "300"].map(str::to_owned).to_vec() };
        fleet.server("a", Script { actions: vec![after_ready(exec)], ..Script::default() });
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let pid = daemon.report("a").await.pid.expect("it runs");
        eventually("it sleeps", WAIT_LIMIT, async || {
            ProcessInfo::of(pid).is_some_and(|process| process.command == "sleep 300")
        })
        .await;
        assert_eq!((daemon.report("a").await.pid, daemon.count("a", "ServerExited").await), (Some(pid), 0));
        stopped(&daemon, "a").await;
        assert_eq!(ProcessInfo::of(pid), None);
    });
}

/// Fault C29.
#[test]
fn two_hundred_zombies_of_its_own_do_not_harm_a_server() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let done = ScriptAction::Say { text: "zombies are there".into(), stream: Stream::Stderr };
        fleet.server(
            "a",
            Script {
                actions: vec![
                    action_at(ScriptPhase::Ready, ScriptAction::Zombies { count: 200 }),
                    action_at(ScriptPhase::Ready, done),
                ],
                ..Script::default()
            },
        );
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        eventually("the zombies are there", WAIT_LIMIT, async || {
            daemon.output("a").await.contains("zombies are there")
        })
        .await;
        let pid = daemon.report("a").await.pid.expect("it runs");
        let zombies = || descendants(pid).iter().filter(|process| process.is_zombie).count();
        eventually("all have ended", WAIT_LIMIT, async || zombies() == 200).await;
        assert!(daemon.report("a").await.is_ready);
        let asked = Instant::now();
        stopped(&daemon, "a").await;
        assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
    });
}

/// Fault C24: the time from the death of a server to the event, while a grandchild holds the pipe.
#[test]
fn a_death_is_told_at_once_though_a_grandchild_holds_the_pipe() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", keeps(Grandchild { life_ms: 60_000, ignore_term: true, ..Grandchild::default() }));
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        eventually("the grandchild lives", WAIT_LIMIT, async || alive(&fleet, "a") == 2).await;
        let pid = daemon.report("a").await.pid.expect("it runs");
        let killed = Instant::now();
        kill(Pid::from_raw(pid.try_into().expect("a process id")), Signal::SIGKILL).expect("it runs");
        let exited = daemon.exited("a").await;
        measured("C24", "exit told after", killed.elapsed());
        assert!(killed.elapsed() < Duration::from_secs(5), "{:?}", killed.elapsed());
        assert_eq!((swept(&exited), alive(&fleet, "a")), (1, 0));
    });
}
