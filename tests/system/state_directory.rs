//! A state directory, or files in it, that are stale, broken, read-only or full.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use llama_warden_stand_in::{Script, ScriptAction, ScriptPhase};
use llama_warden_tests::{
    DaemonOptions, ProcessInfo, Sandbox, TestDaemon, TestFleet, WAIT_LIMIT, action_at, eventually, is_root, sandbox,
};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::process::Child;

/// A process that does not belong to the daemon.
fn bystander(sandbox: &Sandbox) -> Child {
    let mut command = sandbox.program("sleep");
    command.env_clear().current_dir("/").arg("300").kill_on_drop(true).spawn().expect("it starts")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("it is there") {
        let path = entry.expect("it is read").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Fault S4.
#[test]
fn state_files_that_are_garbage_harm_nobody_and_are_made_anew() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\ninitial-delay = \"10ms\"\nmax-attempts = 1");
        fleet.server("a", Script::default());
        let crash = action_at(ScriptPhase::Loading, ScriptAction::Exit { code: 7, last_words: None });
        fleet.server("crashes", Script { load_ms: 60_000, actions: vec![crash], ..Script::default() });
        let mut bystander = bystander(sandbox);
        let pid = bystander.id().expect("it runs");
        let number = pid.to_string();
        let garbage: [&[u8]; 7] = [
            b"",
            b"\0\0\0\0",
            b"\xff\xfe garbage \n\n",
            b"{\"a\":",
            b"{\"version\":0,\"servers\":[{\"pid\":1}]}\n",
            // The pid of a process that does not belong to the daemon.
            number.as_bytes(),
            b"0000000000000001\n",
        ];
        for text in garbage {
            let daemon = sandbox.up(&fleet).await;
            daemon.ready("a").await;
            daemon.event("the other is given up", |event| event.event.kind() == "RestartAbandoned").await;
            daemon.ended().await;
            let state = files(daemon.state_dir());
            assert!(state.len() >= 4, "{state:?}");
            for file in state.iter().filter(|file| file.file_name().is_some_and(|name| name != "events.jsonl")) {
                fs::write(file, text).expect("the sandbox can be written");
            }
            // The harness compares the event log to its end, so it is removed instead.
            fs::remove_file(daemon.state_dir().join("events.jsonl")).expect("it is there");
        }
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let said = daemon.log();
        assert!(said.contains("what the run before has kept does not count"), "{said}");
        assert!(said.contains("failures.json"), "{said}");
        assert!(ProcessInfo::of(pid).is_some_and(|process| !process.is_zombie), "the bystander lives");
        bystander.kill().await.expect("ours");
    });
}

/// Fault S4: what is no regular file, and a file that no memory holds.
#[test]
fn a_state_file_that_is_no_file_or_has_no_end_holds_up_neither_a_start_nor_a_stop() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\ninitial-delay = \"10ms\"\nmax-attempts = 1");
        fleet.server_with("a", Script::default(), "# port");
        let crash = action_at(ScriptPhase::Loading, ScriptAction::Exit { code: 7, last_words: None });
        fleet.server("crashes", Script { load_ms: 60_000, actions: vec![crash], ..Script::default() });
        let state = fleet.state_dir();
        let names = ["boots", "boots.new", "failures.json", "failures.new", "ports.json", "ports.new", "locks/crashes"];
        for odd in [OddFile::Fifo, OddFile::Endless, OddFile::BrokenLink] {
            let _ = fs::remove_dir_all(&state);
            fs::create_dir_all(state.join("locks")).expect("the sandbox can be written");
            fs::set_permissions(&state, Permissions::from_mode(0o700)).expect("it is ours");
            fs::write(state.join("daemon.lock"), "").expect("it is ours");
            names.iter().for_each(|name| odd.make(&state.join(name)));
            let daemon = sandbox.up(&fleet).await;
            daemon.ready("a").await;
            daemon.event("the other is given up", |event| event.event.kind() == "RestartAbandoned").await;
            assert!(daemon.resident_bytes() < 512 << 20);
            daemon.ended().await;
            for name in ["boots", "ports.json"] {
                let made = fs::symlink_metadata(state.join(name)).expect("it is there");
                assert!(made.is_file() && made.len() < 1 << 20, "{name} is made anew");
            }
        }
    });
}

/// Faults S4 and S15: the event log is something else, and later a file again.
#[test]
fn an_event_log_that_is_no_file_holds_up_nothing() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let log = fleet.state_dir().join("events.jsonl");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        fs::remove_file(&log).expect("it is there");
        OddFile::Fifo.make(&log);
        for _ in 0..3 {
            daemon.command("a", "restart?wait=50s").await.expect(200);
        }
        assert!(daemon.log().contains("cannot write the event log"), "{}", daemon.log());
        // Killed: the harness compares whole event logs.
        daemon.signal(Signal::SIGKILL);
        daemon.exit().await;
    });
}

/// Fault S28: the state directory is removed under a daemon that has no other entrance, and a second one is started.
#[test]
fn a_state_directory_that_is_removed_is_made_again_and_stays_one_daemons() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.daemon("listen = \"\"");
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        for round in 1..=2 {
            fs::remove_dir_all(daemon.state_dir()).expect("it is ours");
            eventually("it is made again", WAIT_LIMIT, async || daemon.control().answers("/livez").await).await;
            assert_eq!(daemon.log().matches("is made again").count(), round, "{}", daemon.log());
            let second = sandbox.launch(&fleet, &DaemonOptions::default());
            assert_eq!(second.exit_code().await, 4, "{}", second.log());
        }
        daemon.command("a", "restart?wait=50s").await.expect(200);
        assert!(daemon.state_dir().join("locks/a").is_file());
        // What the next daemon looks for after a crash is there. Killed: the event log has lost its begin, too.
        daemon.signal(Signal::SIGKILL);
        daemon.exit().await;
        let next = sandbox.up(&fleet).await;
        next.ready("a").await;
    });
}

/// Fault S28: another daemon was faster.
#[test]
fn a_daemon_whose_state_directory_another_one_holds_stops() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.daemon("listen = \"\"");
        fleet.server("a", Script::default());
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let state = daemon.state_dir();
        // As a second daemon would leave it.
        let other = state.with_extension("other");
        fs::create_dir(&other).and_then(|()| fs::set_permissions(&other, Permissions::from_mode(0o700))).expect("ours");
        fs::copy(state.join("events.jsonl"), other.join("events.jsonl")).expect("it is ours");
        let lock = File::create(other.join("daemon.lock")).expect("it is ours");
        lock.lock().expect("nobody has it");
        fs::rename(state, state.with_extension("old")).expect("it is ours");
        fs::rename(&other, state).expect("it is ours");
        assert_eq!(daemon.exit_code().await, 0, "{}", daemon.log());
        assert!(daemon.log().contains("another daemon's now"), "{}", daemon.log());
    });
}

#[derive(Debug, Clone, Copy)]
enum OddFile {
    Fifo,
    /// Without blocks on the disk.
    Endless,
    BrokenLink,
}

impl OddFile {
    fn make(self, path: &Path) {
        match self {
            Self::Fifo => mkfifo(path, Mode::S_IRWXU).expect("it is ours"),
            Self::Endless => File::create(path).and_then(|file| file.set_len(1 << 40)).expect("it is ours"),
            Self::BrokenLink => symlink("/nowhere/to/be/found", path).expect("it is ours"),
        }
    }
}

/// Fault S4: files that a crash cut off.
#[test]
fn state_that_was_cut_off_does_not_keep_the_daemon_from_starting() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        for keep in [1, 2, 9] {
            let daemon = sandbox.up(&fleet).await;
            daemon.ready("a").await;
            daemon.signal(Signal::SIGKILL);
            daemon.exit().await;
            for file in files(daemon.state_dir()).iter().filter(|file| file.is_file()) {
                let text = fs::read(file).expect("it is read");
                fs::write(file, &text[..text.len() * keep / 10]).expect("the sandbox can be written");
            }
            // The harness compares whole event logs; tests of telemetry cover a line that is cut off.
            fs::remove_file(daemon.state_dir().join("events.jsonl")).expect("it is there");
        }
        sandbox.up(&fleet).await.ready("a").await;
    });
}

/// Fault S6.
#[test]
fn stale_sockets_and_locks_are_taken_over() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let mut bystander = bystander(sandbox);
        let pid = bystander.id().expect("it runs");
        fs::create_dir_all(fleet.state_dir()).expect("the sandbox can be written");
        drop(UnixListener::bind(fleet.state_dir().join("control.sock")).expect("it is bound"));
        fs::write(fleet.state_dir().join("daemon.lock"), format!("{pid}\n")).expect("the sandbox can be written");
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let holder = fs::read_to_string(fleet.state_dir().join("daemon.lock")).expect("it is read");
        assert_eq!(holder.trim(), daemon.pid().to_string());
        daemon.ended().await;
        assert!(ProcessInfo::of(pid).is_some_and(|process| !process.is_zombie), "the bystander lives");
        bystander.kill().await.expect("ours");
    });
}

/// Mounts a tmpfs on the state directory, in a mount namespace of this thread, with which the mount ends.
fn mount_state(fleet: &TestFleet, flags: MsFlags, size: &str) {
    fs::create_dir_all(fleet.state_dir()).expect("the sandbox can be written");
    unshare(CloneFlags::CLONE_NEWNS).expect("root may");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("root may");
    let data = format!("mode=0700,{size}");
    mount(Some("tmpfs"), &fleet.state_dir(), Some("tmpfs"), flags, Some(data.as_str())).expect("root may");
}

/// Fault S6.
#[test]
fn a_state_directory_that_cannot_be_written_is_refused_with_a_clear_error() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        fs::write(fleet.state_dir(), "a file").expect("the sandbox can be written");
        refused(sandbox, &fleet, 2).await;
        fs::remove_file(fleet.state_dir()).expect("the sandbox can be written");
        if is_root() {
            mount_state(&fleet, MsFlags::MS_RDONLY, "size=64k");
            refused(sandbox, &fleet, 1).await;
        }
    });
}

async fn refused(sandbox: &Sandbox, fleet: &TestFleet, code: i32) {
    let daemon = sandbox.launch(fleet, &DaemonOptions::default());
    assert_eq!(daemon.exit_code().await, code, "{}", daemon.log());
    let log = daemon.log();
    assert!(log.contains("state directory") && log.contains("state-dir"), "what, where and what next: {log}");
}

/// Fault S28.
#[test]
fn a_folder_that_is_not_the_daemons_alone_is_refused_and_left_as_it_was() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let state = fleet.state_dir();
        let mode = || fs::metadata(&state).expect("it is there").permissions().mode() & 0o7777;
        for (open, entry) in [(0o1777, None), (0o755, Some("README.md"))] {
            fs::create_dir(&state).expect("the sandbox can be written");
            fs::set_permissions(&state, Permissions::from_mode(open)).expect("it is ours");
            if let Some(name) = entry {
                fs::write(state.join(name), "precious").expect("it is ours");
            }
            let daemon = sandbox.launch(&fleet, &DaemonOptions::default());
            assert_eq!(daemon.exit_code().await, 2, "{}", daemon.log());
            let log = daemon.log();
            let own = state.join("llama-warden").display().to_string();
            assert!(log.contains("state directory") && log.contains(&own), "{log}");
            assert_eq!((mode(), files(&state).len()), (open, usize::from(entry.is_some())));
            fs::remove_dir_all(&state).expect("it is ours");
        }
    });
}

/// Fault S6: the disk is full when the daemon starts, and later while it runs.
#[test]
fn a_full_state_directory_is_survived_at_start_and_later() {
    if !is_root() {
        return;
    }
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let crash = action_at(ScriptPhase::Loading, ScriptAction::Exit { code: 7, last_words: None });
        fleet.server("a", Script::default());
        fleet.server_with(
            "crashes",
            Script { load_ms: 60_000, actions: vec![crash], ..Script::default() },
            "enabled = false",
        );
        mount_state(&fleet, MsFlags::empty(), "size=128k");
        fs::write(fleet.state_dir().join("daemon.lock"), "").expect("there is space for a name");
        let filler = fleet.state_dir().join("filler");
        fill(&filler);
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        let log = daemon.log();
        assert!(log.contains("No space left") && log.contains("is up"), "{log}");
        assert!(!log.contains("owner-gone"), "{log}");
        // Not in order: the harness compares whole event logs, and this one has a hole.
        daemon.signal(Signal::SIGKILL);
        daemon.exit().await;
        fs::remove_file(&filler).expect("it is there");

        let daemon = sandbox.up(&fleet).await;
        daemon.ready("a").await;
        fill(&filler);
        // State cannot be written; commands work all the same.
        daemon.command("crashes", "start?wait=30s").await.expect(502);
        daemon.command("a", "restart?wait=30s").await.expect(200);
        assert!(daemon.report("a").await.is_ready);
        fs::remove_file(&filler).expect("it is there");
        daemon.command("a", "stop?wait=30s").await.expect(200);
        daemon.signal(Signal::SIGKILL);
        daemon.exit().await;
        assert!(daemon.log().contains("cannot write the event log"), "{}", daemon.log());
        // A person stopped it, and the daemon that was killed has not brought it back.
        let daemon = sandbox.up(&fleet).await;
        assert!(!daemon.report("a").await.is_running);
        daemon.command("a", "start?wait=30s").await.expect(200);
    });
}

/// Fault S6: the disk has no room for one more name while servers that outlive the daemon start, and while another daemon asks for them.
#[test]
fn with_no_room_for_a_name_servers_start_and_a_daemon_that_cannot_be_replaced_goes_on() {
    if !is_root() {
        return;
    }
    for policy in ["adopt", "kill"] {
        sandbox(async |sandbox| {
            let mut fleet = sandbox.fleet();
            fleet.daemon(&format!("on-daemon-death = \"{policy}\""));
            fleet.server("a", Script::default()).server_with("late", Script::default(), "enabled = false");
            mount_state(&fleet, MsFlags::empty(), "size=256k,nr_inodes=40");
            let daemon = sandbox.up(&fleet).await;
            daemon.ready("a").await;
            let fillers = fill_names(&fleet.state_dir());
            daemon.command("a", "restart?wait=30s").await.expect(200);
            daemon.command("late", "start?wait=30s").await.expect(200);
            let pids = async |daemon: &TestDaemon| (daemon.report("a").await.pid, daemon.report("late").await.pid);
            let before = pids(&daemon).await;
            let refused = sandbox.run(daemon.config(), ["up", "--take-over"]).await.expect(1);
            let said = &refused.stderr;
            assert!(said.contains("no room for a hand-over") && said.contains("the daemon goes on"), "{said}");
            assert!(said.contains("next: the disk or a quota is full"), "{said}");
            assert_eq!(pids(&daemon).await, before, "{policy}");
            if policy == "kill" {
                return;
            }
            let told = async || daemon.log().contains("would not outlive the daemon now");
            eventually("it is told of the late one", WAIT_LIMIT, told).await;
            // With room again, its shim opens the door when it is needed.
            fillers.iter().for_each(|filler| fs::remove_file(filler).expect("it is there"));
            daemon.signal(Signal::SIGKILL);
            daemon.exit().await;
            let daemon = sandbox.up(&fleet).await;
            daemon.ready("late").await;
            assert_eq!(pids(&daemon).await, before);
        });
    }
}

/// Makes empty files until the disk has no room for another one.
fn fill_names(folder: &Path) -> Vec<PathBuf> {
    let names = (0..).map(|number| folder.join(format!("filler-{number}")));
    names.take_while(|name| File::create_new(name).is_ok()).collect()
}

fn fill(path: &Path) {
    let text = vec![b'x'; 1 << 20];
    fs::write(path, text).expect_err("the disk is smaller");
}
