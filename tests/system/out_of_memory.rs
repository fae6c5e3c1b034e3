//! Servers that the kernel kills because memory ran out, told from those that somebody else kills.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::path::{Path, PathBuf};

use llama_warden_events::FailureReason;
use llama_warden_stand_in::{Era, Script, ScriptAction, ScriptPhase};
use llama_warden_tests::{DaemonOptions, TestDaemon, action_at, after_ready, executable, own_namespaces, sandbox};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

async fn kill_server(daemon: &TestDaemon, id: &str) -> (FailureReason, String) {
    let pid = daemon.report(id).await.pid.expect("it runs");
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
    let (reason, detail, _) = daemon.failure(id).await;
    (reason, detail)
}

/// The files in which the kernel counts its kills, as a folder for `/sys/fs/cgroup` and a file for `/proc/vmstat`.
struct KillCounts(PathBuf);

impl KillCounts {
    fn set(&self, count: u32) {
        let files = [
            ("vmstat", format!("nr_free_pages 1\noom_kill {count}\n")),
            ("cgroup/memory.events", format!("low 0\noom {count}\noom_kill {count}\noom_group_kill 0\n")),
            ("cgroup/memory/memory.oom_control", format!("oom_kill_disable 0\nunder_oom 0\noom_kill {count}\n")),
        ];
        for (name, text) in files {
            let path = self.0.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }
}

/// Faults C35 and C52: files stand for the kernel's counts. KILL is the kernel's if a count rose, and somebody else's if not.
#[test]
fn a_kill_is_for_want_of_memory_only_if_the_kernel_counted_one() {
    sandbox(async |sandbox| {
        let counts = KillCounts(sandbox.file("kernel"));
        counts.set(7);
        let folder = counts.0.display();
        let mounts =
            format!("mount --bind {folder}/vmstat /proc/vmstat && mount --bind {folder}/cgroup /sys/fs/cgroup");
        let script = format!("{mounts} && exec \"$@\"");
        let options = DaemonOptions {
            under: own_namespaces(&["--mount", "sh", "-c", &script, "sh"]),
            ..DaemonOptions::default()
        };
        let mut fleet = sandbox.fleet();
        for id in ["a", "b", "c"] {
            fleet.server(id, Script::default());
        }
        fleet.server("loading", Script { load_ms: 60_000, ..Script::default() });
        let daemon = sandbox.up_with(&fleet, &options).await;
        for id in ["a", "b", "c"] {
            daemon.ready(id).await;
        }
        let somebody = "another process ended it with signal KILL".to_owned();
        assert_eq!(kill_server(&daemon, "a").await, (FailureReason::Crashed, somebody.clone()));
        counts.set(8);
        let (reason, detail) = kill_server(&daemon, "b").await;
        assert_eq!(reason, FailureReason::OutOfMemory, "{detail}");
        assert_eq!(kill_server(&daemon, "c").await, (FailureReason::Crashed, somebody));
        counts.set(9);
        let (reason, detail) = kill_server(&daemon, "loading").await;
        assert_eq!(reason, FailureReason::OutOfMemory, "{detail}");
        assert!(detail.starts_with("the kernel killed it because memory ran out"), "{detail}");
    });
}

/// A memory control group of 64 MiB; `None` where this user may not make one.
struct SmallGroup(PathBuf);

impl SmallGroup {
    fn new(name: &str) -> Option<Self> {
        let places = [
            ("/sys/fs/cgroup/memory", [("memory.limit_in_bytes", "67108864"), ("memory.swappiness", "0")]),
            ("/sys/fs/cgroup", [("memory.max", "67108864"), ("memory.swap.max", "0")]),
        ];
        places.into_iter().find_map(|(mount, limits)| {
            let folder = Path::new(mount).join(format!("llama-warden-{name}-{}", std::process::id()));
            std::fs::create_dir(&folder).ok()?;
            let group = Self(folder);
            // Dropped where the controller is not in force, which removes it.
            std::fs::write(group.0.join(limits[0].0), limits[0].1).ok()?;
            let _ = std::fs::write(group.0.join(limits[1].0), limits[1].1);
            Some(group)
        })
    }
}

impl Drop for SmallGroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Faults C35 and C52: the kernel kills the server in its control group, and so says the failure. A later KILL by a person in
/// the same group is told from that.
#[test]
fn a_server_that_the_kernel_kills_for_want_of_memory_is_out_of_memory_while_it_loads_and_when_it_is_ready() {
    let Some(group) = SmallGroup::new("oom") else {
        // No failure even where all tests have to run: the test above covers the fault on every machine.
        println!("left out: a server that a real control group kills (needs the right to make one)");
        return;
    };
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\npolicy = \"never\"");
        let server = sandbox.build_of(Era::default());
        let script = format!(
            "#!/bin/sh\ncase \"$1\" in --help|--version) ;; *) echo $$ > {}/cgroup.procs ;; esac\nexec {} \"$@\"\n",
            group.0.display(),
            server.display()
        );
        fleet.binary(&executable(&sandbox.file("wrapper"), &script));
        let takes_all = || ScriptAction::Exec { argv: vec!["tail".to_owned(), "/dev/zero".to_owned()] };
        let loading = Script {
            load_ms: 60_000,
            actions: vec![action_at(ScriptPhase::Loading, takes_all())],
            ..Script::default()
        };
        fleet.server("loading", loading);
        fleet.server("ready", Script { actions: vec![after_ready(takes_all())], ..Script::default() });
        fleet.server("killed", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("killed").await;
        for id in ["loading", "ready"] {
            let (reason, detail, _) = daemon.failure(id).await;
            assert_eq!(reason, FailureReason::OutOfMemory, "{id}: {detail}");
            assert!(detail.starts_with("the kernel killed it because memory ran out"), "{id}: {detail}");
        }
        assert_eq!(daemon.count("ready", "ReadyReached").await, 1);
        let pid = daemon.report("killed").await.pid.expect("it runs");
        kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
        let (reason, detail, _) = daemon.failure("killed").await;
        assert_eq!((reason, &*detail), (FailureReason::Crashed, "another process ended it with signal KILL"));
    });
}
