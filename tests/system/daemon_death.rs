//! The daemon is killed, fails, or runs twice.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::time::Duration;

use llama_warden_stand_in::{Script, TermScript};
use llama_warden_tests::{DaemonOptions, ProcessInfo, WAIT_LIMIT, eventually, measured, processes_with, sandbox};
use nix::sys::signal::Signal;
use tokio::time::Instant;

/// Fault S1. Servers must end within a second; the test allows three, for a busy machine.
#[test]
fn a_killed_daemon_leaves_no_server_behind_and_the_next_start_is_clean() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let stubborn = Script { term: TermScript::Ignore, ..Script::default() };
        fleet.server("ready", stubborn.clone()).server("loading", Script { load_ms: 60_000, ..stubborn });
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("ready").await;
        let pids: Vec<u32> = daemon.status().await.servers.iter().filter_map(|server| server.pid).collect();
        assert_eq!(pids.len(), 2);
        daemon.signal(Signal::SIGKILL);
        assert_eq!(daemon.exit_code().await, 128 + 9);
        let home = sandbox.path().to_string_lossy().into_owned();
        let killed = Instant::now();
        eventually("every server is gone", Duration::from_secs(3), async || processes_with(&home).is_empty()).await;
        measured("S1", "daemon killed, nothing left after", killed.elapsed());

        fleet.rewrite("loading", &Script::default());
        let next = sandbox.up(&fleet).await;
        for id in ["ready", "loading"] {
            next.ready(id).await;
        }
        assert_ne!(next.event_stream().boot(), daemon.event_stream().boot());
    });
}

/// Fault S1, while servers are being stopped.
#[test]
fn a_daemon_killed_while_it_stops_leaves_no_server_behind() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server_with("a", Script { term: TermScript::Ignore, ..Script::default() }, "stop = { grace = \"1h\" }");
        fleet.daemon("shutdown-deadline = \"1h\"");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        daemon.signal(Signal::SIGTERM);
        daemon.event("TERM is sent", |event| event.event.kind() == "SignalDelivered").await;
        daemon.signal(Signal::SIGKILL);
        daemon.exit().await;
        let home = sandbox.path().to_string_lossy().into_owned();
        eventually("the server is gone", Duration::from_secs(3), async || processes_with(&home).is_empty()).await;
    });
}

#[test]
fn a_state_that_cannot_be_written_is_told_once_before_anything_starts() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        // A state directory of an earlier daemon, with a directory in the place of the temporary file that becomes `boots`.
        std::fs::create_dir_all(fleet.state_dir().join("boots.new")).expect("the sandbox can be written");
        std::fs::write(fleet.state_dir().join("daemon.lock"), "").expect("the sandbox can be written");
        let daemon = sandbox.launch(&fleet, &DaemonOptions::default());
        assert_eq!(daemon.exit_code().await, 1, "{}", daemon.log());
        let log = daemon.log();
        assert!(log.contains("cannot write down this run") && !log.contains("is up"), "{log}");
    });
}

/// Fault S5.
#[test]
fn of_daemons_on_one_state_directory_one_wins_and_the_others_name_it() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        for _ in 0..3 {
            let contenders: Vec<_> = (0..4).map(|_| sandbox.launch(&fleet, &DaemonOptions::default())).collect();
            let mut ends = Vec::new();
            eventually("three have given up", WAIT_LIMIT, async || {
                ends = contenders.iter().filter(|daemon| !ProcessInfo::runs(daemon.pid())).collect();
                ends.len() >= 3
            })
            .await;
            let winner = contenders.iter().find(|daemon| ProcessInfo::runs(daemon.pid())).expect("one wins");
            for loser in ends {
                assert_eq!(loser.exit_code().await, 4, "{}", loser.log());
                // A loser that comes before the winner has written its pid into the lock cannot name the pid.
                let named = loser.log().contains(&winner.pid().to_string()) || loser.log().contains("another process");
                assert!(named && loser.log().contains("state directory"), "{}", loser.log());
            }
            winner.answering().await;
            let late = sandbox.run(&fleet.path(), ["up"]).await.expect(4);
            assert!(late.stderr.contains(&winner.pid().to_string()), "{}", late.stderr);
            winner.signal(Signal::SIGTERM);
            assert_eq!(winner.exit_code().await, 0, "{}", winner.log());
        }
    });
}
