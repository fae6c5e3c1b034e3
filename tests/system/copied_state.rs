//! State directories that were copied or moved, and those that have two names.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use llama_warden_stand_in::{Grandchild, Script, ScriptAction, ScriptPhase};
use llama_warden_tests::{
    DaemonOptions, ProcessInfo, Sandbox, TestDaemon, TestFleet, WAIT_LIMIT, action_at, eventually, is_root,
    kill_with_guardian_and_shims, sandbox,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use crate::crash_moments::{escaped_descendant, survivors, unique_life_ms};

fn fleet(sandbox: &Sandbox, name: &str, policy: &str) -> TestFleet {
    let mut fleet = sandbox.fleet_named(name);
    fleet.daemon(&format!("on-daemon-death = \"{policy}\""));
    fleet.server("a", Script::default()).server("b", Script::default());
    fleet
}

async fn pids(daemon: &TestDaemon) -> [u32; 2] {
    let pid = async |id| daemon.report(id).await.pid.expect("it runs");
    [pid("a").await, pid("b").await]
}

fn all_run(pids: [u32; 2]) -> bool {
    pids.into_iter().all(ProcessInfo::runs)
}

/// Copies a state directory as a person would, with `cp` and one of its options.
async fn copy(sandbox: &Sandbox, option: &str, from: &Path, to: &Path) {
    let copied = sandbox.program("cp").arg(option).args([from, to]).status().await.expect("it starts");
    assert!(copied.success(), "{copied}");
    // The harness compares whole event logs.
    fs::remove_file(to.join("events.jsonl")).expect("it is there");
}

/// Faults S4 and S28: its tags, its locks and its sockets name servers of a daemon that lives.
#[test]
fn a_daemon_on_a_copied_state_directory_leaves_the_servers_of_the_first_one_alone() {
    for policy in ["kill", "adopt"] {
        for option in ["-a", "-al"] {
            sandbox(async |sandbox| {
                let (original, other) = (fleet(sandbox, "original", policy), fleet(sandbox, "copy", policy));
                let first = sandbox.up_until_ready(&original, &["a", "b"]).await;
                let servers = pids(&first).await;
                copy(sandbox, option, &original.state_dir(), &other.state_dir()).await;
                if option == "-al" {
                    // Such a copy is refused: its lock has two names, and its control socket has a daemon.
                    let [lock, socket] = ["daemon.lock", "control.sock"].map(|name| other.state_dir().join(name));
                    fs::remove_file(&socket).and_then(|()| fs::remove_file(&lock)).expect("ours");
                    fs::write(&lock, "").expect("ours");
                }

                let second = sandbox.up_until_ready(&other, &["a", "b"]).await;
                assert!(all_run(servers), "{policy} {option}: {}", second.log());
                for id in ["a", "b"] {
                    assert_eq!(second.count(id, "ServerAdopted").await, 0);
                }
                let said = second.log();
                let who =
                    format!("{}, {}", servers.into_iter().min().expect("two"), servers.into_iter().max().expect("two"));
                let what = format!("down --address unix:{}/control.sock", original.state_dir().display());
                assert!(said.contains("is a copy") && said.contains(&who) && said.contains(&what), "{said}");
                // What it has launched is its own, and it ends nothing else.
                for id in ["a", "b"] {
                    second.command(id, "restart?wait=50s").await.expect(200);
                }
                second.killed().await;
                let second = sandbox.up_until_ready(&other, &["a", "b"]).await;
                assert!(!second.log().contains("is a copy"), "{}", second.log());
                second.ended().await;
                assert!(all_run(servers) && pids(&first).await == servers, "{policy} {option}");
                for id in ["a", "b"] {
                    first.command(id, "restart?wait=50s").await.expect(200);
                }
                first.ended().await;
            });
        }
    }
}

/// Faults S2 and S28: they wait for the daemon of the original.
#[test]
fn a_copy_of_a_dead_daemons_state_directory_takes_nothing_over_and_the_original_does() {
    sandbox(async |sandbox| {
        let (original, other) = (fleet(sandbox, "original", "adopt"), fleet(sandbox, "copy", "adopt"));
        let first = sandbox.up_until_ready(&original, &["a", "b"]).await;
        let servers = pids(&first).await;
        first.killed().await;
        copy(sandbox, "-a", &original.state_dir(), &other.state_dir()).await;
        let second = sandbox.up_until_ready(&other, &["a", "b"]).await;
        assert!(all_run(servers), "{}", second.log());
        let own = pids(&second).await;
        let next = sandbox.up_until_ready(&original, &["a", "b"]).await;
        assert_eq!(pids(&next).await, servers);
        assert_eq!(pids(&second).await, own);
        assert!(!next.log().contains("left processes behind"), "{}", next.log());
    });
}

/// Faults S3 and S28: neither daemon nor guardian nor shim is there any more.
#[test]
fn what_a_dead_daemon_has_left_is_killed_from_a_moved_or_copied_state_directory_too() {
    for way in ["renamed", "copied", "copied, and the original removed"] {
        sandbox(async |sandbox| {
            let (mut original, mut other) = (sandbox.fleet_named("original"), sandbox.fleet_named("copy"));
            let life_ms = unique_life_ms();
            // Without an environment, it is known only by the lock, of which there is none in a copy.
            let left = Grandchild { scrub_env: way == "renamed", ..escaped_descendant(life_ms) };
            let actions = vec![action_at(ScriptPhase::Start, ScriptAction::Spawn(left))];
            original.server("a", Script { actions, ..Script::default() });
            other.server("b", Script::default());
            let first = sandbox.up(&original).await;
            first.ready("a").await;
            eventually("its descendant runs", WAIT_LIMIT, async || survivors(&original, life_ms).0 == 1).await;
            kill_with_guardian_and_shims(first.pid());
            first.exit().await;
            assert_eq!(survivors(&original, life_ms).0, 1, "it is left");
            let (from, to) = (original.state_dir(), other.state_dir());
            if way == "renamed" {
                fs::rename(&from, &to).expect("ours");
                fs::remove_file(to.join("events.jsonl")).expect("it is there");
            } else {
                copy(sandbox, "-a", &from, &to).await;
            }
            if way.ends_with("removed") {
                fs::remove_dir_all(&from).expect("ours");
            }
            let second = sandbox.up(&other).await;
            second.ready("b").await;
            assert_eq!(survivors(&original, life_ms).0, 0, "{way}: {}", second.log());
            assert!(second.log().contains("left processes behind"), "{way}: {}", second.log());
        });
    }
}

/// Faults S2 and S28: as `mv` does from one file system to another. The sockets of shims cannot come along.
#[test]
fn servers_whose_state_directory_went_to_another_file_system_are_gone_before_the_next_ones_start() {
    sandbox(async |sandbox| {
        let fleet = fleet(sandbox, "original", "adopt");
        let first = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        let servers = pids(&first).await;
        first.killed().await;
        let moved = sandbox.file("moved-state");
        copy(sandbox, "-a", &fleet.state_dir(), &moved).await;
        fs::remove_dir_all(fleet.state_dir()).and_then(|()| symlink(&moved, fleet.state_dir())).expect("ours");
        // On the same ports, with no attempt to spare.
        let next = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        assert!(!servers.into_iter().any(ProcessInfo::runs), "{}", next.log());
    });
}

/// Fault S28: the first daemon goes on in a new one of the old name.
#[test]
fn a_state_directory_that_was_renamed_under_a_daemon_names_nobody_to_the_next_one() {
    for policy in ["kill", "adopt"] {
        sandbox(async |sandbox| {
            let (original, other) = (fleet(sandbox, "original", policy), fleet(sandbox, "copy", policy));
            let first = sandbox.up_until_ready(&original, &["a", "b"]).await;
            let servers = pids(&first).await;
            // Stopped, so that it does not notice before it is found.
            first.signal(Signal::SIGSTOP);
            fs::rename(original.state_dir(), other.state_dir()).expect("ours");
            let refused = sandbox.launch(&other, &DaemonOptions::default());
            assert_eq!(refused.exit_code().await, 4, "{}", refused.log());
            first.signal(Signal::SIGCONT);
            eventually("it is made again", WAIT_LIMIT, async || first.log().contains("is made again")).await;
            // At which the first one still answers.
            fs::remove_file(other.state_dir().join("control.sock")).expect("it is there");
            fs::rename(other.state_dir().join("events.jsonl"), original.state_dir().join("events.jsonl"))
                .expect("ours");
            let second = sandbox.up_until_ready(&other, &["a", "b"]).await;
            assert!(all_run(servers), "{policy}: {}", second.log());
            assert!(second.log().contains("is a copy"), "{}", second.log());
            second.ended().await;
            assert_eq!(pids(&first).await, servers);
            first.killed().await;
            eventually("they end with their daemon", WAIT_LIMIT, async || !servers.into_iter().any(ProcessInfo::runs))
                .await;
        });
    }
}

/// Fault S5: the lock is one, whatever leads to it.
#[test]
fn a_state_directory_by_another_name_has_the_same_daemon() {
    sandbox(async |sandbox| {
        let (original, other) = (fleet(sandbox, "original", "kill"), fleet(sandbox, "copy", "kill"));
        let first = sandbox.up_until_ready(&original, &["a", "b"]).await;
        let servers = pids(&first).await;
        let refused = async || {
            let refused = sandbox.launch(&other, &DaemonOptions::default());
            assert_eq!(refused.exit_code().await, 4, "{}", refused.log());
            assert!(refused.log().contains(&format!("is held by process {}", first.pid())), "{}", refused.log());
        };
        symlink(original.state_dir(), other.state_dir()).expect("ours");
        refused().await;
        if is_root() {
            fs::remove_file(other.state_dir()).and_then(|()| fs::create_dir(other.state_dir())).expect("ours");
            unshare(CloneFlags::CLONE_NEWNS).expect("root may");
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("root may");
            let from = Some(original.state_dir());
            mount(from.as_deref(), &other.state_dir(), none, MsFlags::MS_BIND, none).expect("root may");
            refused().await;
        }
        assert!(all_run(servers) && pids(&first).await == servers);
    });
}
