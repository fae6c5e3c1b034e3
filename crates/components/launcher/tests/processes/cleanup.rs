//! No process is left behind.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use llama_warden_bus::EventDraft;
use llama_warden_events::{Event, FailureReason, ProcessEnd, Signal};

use crate::TestCase;
use crate::fixture::{LauncherFixture, boot, exists, id, no_zombies, on_runtime, read_pid, runs};

pub const TESTS: &[TestCase] = &[
    ("a_grandchild_that_holds_the_pipe_is_swept", grandchild),
    ("a_grandchild_that_ignores_term_has_its_time_and_is_killed_before_the_exit_is_heard", stubborn),
    ("a_chatty_grandchild_does_not_hold_up_the_exit", chatty),
    ("a_grandchild_that_left_its_session_is_swept", escaped),
    ("a_grandchild_without_environment_and_session_is_swept", unmarked),
    ("draining_ends_when_a_stranger_holds_the_pipe", held),
    ("a_cancelled_launcher_leaves_nothing", cancelled),
    ("a_killed_daemon_takes_its_servers_along", killed_daemon),
    ("a_panic_of_another_component_takes_the_servers_along", panic_elsewhere),
    ("a_dropped_runtime_takes_its_servers_along", dropped_runtime),
    ("the_next_daemon_ends_what_a_killed_one_left", next_daemon),
    ("what_an_earlier_launch_left_on_the_port_is_ended_and_the_next_one_comes", late_release),
    ("the_next_daemon_ends_who_scrubbed_its_environment", next_daemon_unmarked),
    ("orphans_are_reaped_and_no_status_is_lost", orphans),
    ("output_goes_on_in_the_middle_of_a_line_and_none_is_lost_or_doubled", handed_over),
];

/// Launches a body that writes a grandchild's id into `$F`; the grandchild must be gone when the exit is published.
fn sweep(body: &'static str, signal: Option<Signal>) {
    on_runtime(async move {
        let mut fixture = LauncherFixture::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let file = fixture.path("grandchild");
        let server = fixture.server("a", &format!("F='{}'; {body}", file.display()));
        fixture.configure([server]).await;
        let leader = fixture.launch(1).await;
        fixture.printed("up").await;
        if let Some(signal) = signal {
            fixture.signal(1, signal).await.expect("accepted");
            while runs(leader) {
                tokio::task::yield_now().await;
            }
            assert!(runs(read_pid(&file)), "the grace is for it too");
            fixture.signal(1, Signal::KILL).await.expect("accepted");
        }
        let (_, swept) = fixture.exited().await;
        assert!(swept >= 1, "nothing was swept");
        assert!(!runs(read_pid(&file)) && !exists(leader));
        no_zombies();
        fixture.end().await;
    });
}

fn grandchild() {
    sweep("sleep 60 & echo $! > $F; echo up; exit 0", None);
}

fn stubborn() {
    sweep(
        "sh -c 'trap : TERM; echo up; while :; do sleep 0.05; done' & echo $! > $F; wait; exit 0",
        Some(Signal::TERM),
    );
}

fn chatty() {
    sweep("(while :; do echo chatter; sleep 0.01; done) & echo $! > $F; echo up; exit 0", None);
}

fn escaped() {
    sweep("(setsid sh -c 'echo $$ > '$F'; echo up; sleep 60' &); until [ -s $F ]; do sleep 0.01; done; exit 0", None);
}

/// Fault C28: a descendant that left its group and cleared its environment, and has no lock.
fn unmarked() {
    on_runtime(async {
        let mut fixture = LauncherFixture::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let file = fixture.path("grandchild");
        let body = format!("F='{}'; {UNMARKED}; exit 2", file.display());
        let server = fixture.server("a", &body);
        fixture.configure([server]).await;
        fixture.launch(1).await;
        assert_eq!(fixture.exited().await, (ProcessEnd::Exited { code: 2 }, 1));
        assert!(!runs(read_pid(&file)));
        fixture.end().await;
    });
}

/// Leaves a process behind that has nothing of the launch but the server's lock.
const UNMARKED: &str = "(env -i setsid sh -c 'echo $$ > '$F'; exec /bin/sleep 60' >/dev/null 2>&1 &); \
                        until [ -s $F ]; do sleep 0.01; done";

/// Fault S13.
fn panic_elsewhere() {
    on_runtime(async {
        let folder = tempfile::tempdir().expect("tempdir");
        let (error, bus) = crate::panicking::daemon(folder.path()).await;
        let snapshot = bus.snapshot();
        assert_eq!((error.component, error.error.as_str()), ("guest", "panicked: boom"));
        assert_eq!(snapshot.daemon.failed_component, Some(("guest".to_owned(), "panicked: boom".to_owned())));
        let record = snapshot.servers.get(&id()).expect("is known");
        let killed = ProcessEnd::Signaled { signal: Signal::KILL, core_dumped: false };
        assert_eq!((record.last_end, snapshot.events.get("ServerSpawned")), (Some(killed), Some(&1)));
        no_zombies();
    });
}

/// Fault S14.
fn dropped_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("builds");
    let (fixture, leader) = runtime.block_on(async {
        let mut fixture =
            LauncherFixture::new("trap '' TERM HUP; echo up; while :; do read never < /dev/zero; done").await;
        let leader = fixture.launch(1).await;
        fixture.printed("up").await;
        (fixture, leader)
    });
    assert!(runs(leader));
    drop(runtime);
    let deadline = Instant::now() + Duration::from_secs(20);
    while exists(leader) {
        assert!(Instant::now() < deadline, "the server outlived the runtime, or is not reaped");
        std::thread::yield_now();
    }
    drop(fixture);
}

/// A process that is not below the server, and to which the server has given its output: `docker run` has this shape.
fn held() {
    on_runtime(async {
        let folder = tempfile::tempdir().expect("tempdir");
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("is made");
        let mut fixture = LauncherFixture::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let server = fixture.server("a", &format!("echo $$ > '{}'; read never < /dev/zero; sleep 60", pipe.display()));
        fixture.configure([server]).await;
        fixture.try_launch(&id(), 1).await.expect("accepted");
        let leader = read_pid(&pipe);
        let output = std::fs::OpenOptions::new().write(true).open(format!("/proc/{leader}/fd/1")).expect("ours");
        fixture.spawned().await;
        fixture.signal(1, Signal::KILL).await.expect("runs");
        assert_eq!(fixture.exited().await.1, 0);
        fixture.end().await;
        drop(output);
    });
}

fn cancelled() {
    on_runtime(async {
        let mut fixture = LauncherFixture::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let file = fixture.path("grandchild");
        let body = format!("trap '' TERM; (trap '' TERM; sleep 60) & echo $! > '{}'; echo up; wait", file.display());
        let server = fixture.server("a", &body);
        fixture.configure([server]).await;
        let leader = fixture.launch(1).await;
        fixture.printed("up").await;
        let (bus, grandchild) = (fixture.bus.bus().clone(), read_pid(&file));
        fixture.end().await;
        assert!(!exists(leader) && !runs(grandchild));
        let snapshot = bus.snapshot();
        let record = snapshot.servers.get(&id()).expect("is known");
        let killed = ProcessEnd::Signaled { signal: Signal::KILL, core_dumped: false };
        assert_eq!(record.last_end, Some(killed), "the exit was published");
    });
}

/// A daemon of its own with a server that runs `body`, and the server's process id.
fn daemon(state_dir: &Path, body: &str) -> (Child, u32) {
    let own = std::env::current_exe().expect("known");
    let mut daemon = Command::new(own)
        .args(["child", "die-with-a-server", state_dir.to_str().expect("text"), body])
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawns");
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().expect("piped")).read_line(&mut line).expect("says it");
    let server = line.trim().parse().expect("a process id");
    assert!(runs(server));
    (daemon, server)
}

fn killed_daemon() {
    let state_dir = tempfile::tempdir().expect("tempdir");
    let (mut daemon, server) =
        daemon(state_dir.path(), "trap '' TERM HUP; echo up; while :; do read never < /dev/zero; done");
    daemon.kill().expect("ours");
    daemon.wait().expect("ended");
    let deadline = Instant::now() + Duration::from_secs(1);
    while runs(server) {
        assert!(Instant::now() < deadline, "the server outlived its daemon by a second");
        std::thread::yield_now();
    }
}

fn next_daemon() {
    next_daemon_after("setsid sh -c 'echo $$ > '$F'; sleep 60' & until [ -s $F ]; do sleep 0.01; done");
}

/// Faults C28 and S3.
fn next_daemon_unmarked() {
    next_daemon_after(UNMARKED);
}

/// Kills a daemon, its guardian and its shims at once: none may see the end of another.
fn kill_with_guardian_and_shims(mut daemon: Child) {
    let guardian = llama_warden_procfs::children(daemon.id());
    let shims: Vec<u32> = guardian.iter().flat_map(|guardian| llama_warden_procfs::children(*guardian)).collect();
    let below: Vec<u32> = guardian.into_iter().chain(shims).collect();
    let signal = |pid: u32, signal| {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("fits"));
        nix::sys::signal::kill(pid, signal).expect("ours");
    };
    assert!(below.len() >= 2, "{below:?}");
    // The daemon first: it would sweep what a shim leaves, in the moment before it is killed itself.
    signal(daemon.id(), nix::sys::signal::Signal::SIGSTOP);
    below.iter().for_each(|pid| signal(*pid, nix::sys::signal::Signal::SIGSTOP));
    below.iter().for_each(|pid| signal(*pid, nix::sys::signal::Signal::SIGKILL));
    daemon.kill().expect("ours");
    daemon.wait().expect("ended");
    // The leader dies with its shim, by the parent-death signal.
}

/// Kills a daemon whose server has left a grandchild, named in `$F`, which the next daemon has to end.
fn next_daemon_after(body: &str) {
    let state_dir = tempfile::tempdir().expect("tempdir");
    let file = state_dir.path().join("grandchild");
    let (daemon, _) = daemon(state_dir.path(), &format!("F='{}'; {body}; wait; read never", file.display()));
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::fs::read_to_string(&file).map_or(true, |text| !text.ends_with('\n')) {
        assert!(Instant::now() < deadline, "no grandchild came up");
        std::thread::yield_now();
    }
    let grandchild = read_pid(&file);
    kill_with_guardian_and_shims(daemon);
    assert!(runs(grandchild), "only the next daemon can end it");
    on_runtime(async {
        let mut fixture = LauncherFixture::open(&[("PATH", "/usr/bin:/bin")], Some(state_dir.path().to_owned())).await;
        let server = fixture.server("a", "exit 0");
        fixture.configure([server]).await;
        fixture.launch(1).await;
        assert!(!runs(grandchild), "nothing is launched before it is gone");
        fixture.end().await;
    });
}

/// A process that outlived the sweep of its launch, and a stranger that has only the same shape.
fn late_release() {
    on_runtime(async {
        let mut fixture = LauncherFixture::new("echo up; exec sleep 60").await;
        let server = fixture.server("a", "echo up; exec sleep 60");
        let listening = |marker: String| {
            let mut holder = Command::new(std::env::current_exe().expect("known"))
                .args(["child", "listen", "--host", &server.host, "--port", &server.port.to_string()])
                .env("LLAMA_WARDEN_LAUNCH", marker)
                .stdout(Stdio::piped())
                .spawn()
                .expect("spawns");
            let mut line = String::new();
            BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut line).expect("says it");
            assert_eq!(line, "listening\n");
            holder
        };
        fixture.configure([server.clone()]).await;
        let boot = boot();
        let mut earlier = listening(format!("{boot}/a/1"));
        fixture.launch(2).await;
        assert_eq!(earlier.wait().expect("ended").signal(), Some(9));
        fixture.signal(2, Signal::KILL).await.expect("runs");
        fixture.exited().await;

        let mut stranger = listening(format!("{boot}/ab/1"));
        fixture.try_launch(&id(), 3).await.expect("accepted");
        let over = fixture.over().await;
        assert!(matches!(over.event, Event::ServerFailed { reason: FailureReason::PortInUse, .. }), "{over:?}");
        assert_eq!(stranger.try_wait().expect("ours"), None, "a stranger is not touched");
        stranger.kill().expect("ours");
        stranger.wait().expect("ended");
        fixture.end().await;
    });
}

fn orphans() {
    let own = std::env::current_exe().expect("known");
    let status = Command::new(own).args(["child", "be-init", "100"]).status().expect("runs");
    assert!(status.success(), "{status}");
}

/// Numbered lines, written in pieces, under three launchers one after the other.
fn handed_over() {
    on_runtime(async {
        let state_dir = tempfile::tempdir().expect("tempdir");
        let body = "i=0; while :; do i=$((i+1)); printf 'line '; sleep 0.002; printf '%s of many\\n' $i; done";
        let scripts = tempfile::tempdir().expect("tempdir");
        let server = crate::fixture::server_in(scripts.path(), "a", body);
        let (mut lines, mut leader) = (Vec::new(), None);
        for _ in 0..3 {
            let mut fixture = LauncherFixture::after(&server, &[("PATH", "/usr/bin:/bin")], state_dir.path()).await;
            let pid = fixture.launch(1).await;
            assert_eq!(*leader.get_or_insert(pid), pid, "the process is the same");
            let last = lines.len();
            while fixture.lines().len() < 200 {
                tokio::task::yield_now().await;
            }
            fixture.bus.publish(EventDraft::daemon(Event::DaemonHandingOver { trigger: "test".into() })).await;
            let lane = fixture.bus.lane().clone();
            fixture.end().await;
            let kept = lane.tail(&id(), None, 100_000);
            lines.extend(kept.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()));
            assert!(lines.len() >= last + 200);
        }
        let expected: Vec<String> = (1..=lines.len()).map(|number| format!("line {number} of many")).collect();
        assert_eq!(lines, expected);
        let leader = nix::unistd::Pid::from_raw(i32::try_from(leader.expect("it ran")).expect("fits"));
        nix::sys::signal::kill(leader, nix::sys::signal::Signal::SIGKILL).expect("ours");
        // The shim keeps its status for a daemon that does not come.
        let mut last = LauncherFixture::after(&server, &[("PATH", "/usr/bin:/bin")], state_dir.path()).await;
        last.launch(1).await;
        assert!(matches!(last.exited().await.0, ProcessEnd::Signaled { signal: Signal::KILL, .. }));
        last.end().await;
    });
}
