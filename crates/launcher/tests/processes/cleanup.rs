//! What is left behind: nothing.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use llama_warden_events::{ProcessEnd, Signal};

use crate::Promise;
use crate::bench::{Bench, exists, on_runtime, read_pid, runs, zombie_children};

pub const PROMISES: &[Promise] = &[
    ("a_grandchild_that_holds_the_pipe_is_swept", grandchild),
    ("a_grandchild_that_ignores_term_is_killed_before_the_exit_is_heard", stubborn),
    ("a_chatty_grandchild_does_not_hold_up_the_exit", chatty),
    ("a_grandchild_that_left_its_session_is_found_by_its_marker", escaped),
    ("draining_ends_when_somebody_unknown_holds_the_pipe", held),
    ("a_cancelled_launcher_leaves_nothing", cancelled),
    ("a_killed_daemon_takes_its_servers_along", killed_daemon),
    ("orphans_are_reaped_and_no_status_is_lost", orphans),
];

/// Launches a body that writes a grandchild's id into `$F`; the grandchild must be gone when the exit is heard.
fn sweep(body: &'static str, signal: Option<Signal>) {
    on_runtime(async move {
        let mut bench = Bench::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let file = bench.path("grandchild");
        let server = bench.server("a", &format!("F='{}'; {body}", file.display()));
        bench.configure([server]).await;
        let leader = bench.launch(1).await;
        bench.printed("up").await;
        let start = Instant::now();
        if let Some(signal) = signal {
            bench.signal(1, signal).await.expect("accepted");
        }
        let (_, swept) = bench.exited().await;
        assert!(start.elapsed() < Duration::from_secs(2), "it took {:?}", start.elapsed());
        assert!(swept >= 1, "nothing was swept");
        assert!(!runs(read_pid(&file)) && !exists(leader));
        assert_eq!(zombie_children(), [0; 0]);
        bench.end().await;
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

fn held() {
    on_runtime(async {
        let mut bench = Bench::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let file = bench.path("stranger");
        let body = "(env -i setsid sh -c 'echo $$ > '$F'; exec /bin/sleep 60' &); until [ -s $F ]; do sleep 0.01; done; exit 2";
        let server = bench.server("a", &format!("F='{}'; {body}", file.display()));
        bench.configure([server]).await;
        bench.launch(1).await;
        assert_eq!(bench.exited().await, (ProcessEnd::Exited { code: 2 }, 0));
        let stranger = read_pid(&file);
        assert!(runs(stranger), "nothing tells that it is ours");
        bench.end().await;
        let stranger = nix::unistd::Pid::from_raw(i32::try_from(stranger).expect("fits"));
        nix::sys::signal::kill(stranger, nix::sys::signal::Signal::SIGKILL).expect("ours");
    });
}

fn cancelled() {
    on_runtime(async {
        let mut bench = Bench::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let file = bench.path("grandchild");
        let body = format!("trap '' TERM; (trap '' TERM; sleep 60) & echo $! > '{}'; echo up; wait", file.display());
        let server = bench.server("a", &body);
        bench.configure([server]).await;
        let leader = bench.launch(1).await;
        bench.printed("up").await;
        let bus = bench.stage.bus().clone();
        bench.end().await;
        assert!(!exists(leader) && !runs(read_pid(&file)));
        let snapshot = bus.snapshot();
        let record = snapshot.servers.get(&crate::bench::id()).expect("is known");
        let killed = ProcessEnd::Signaled { signal: Signal::KILL, core_dumped: false };
        assert_eq!(record.last_end, Some(killed), "the exit was published");
    });
}

fn killed_daemon() {
    let own = std::env::current_exe().expect("known");
    let mut daemon = Command::new(own)
        .args(["act", "die-with-a-server", "trap '' TERM HUP; echo up; while :; do read never < /dev/zero; done"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("spawns");
    let mut line = String::new();
    BufReader::new(daemon.stdout.take().expect("piped")).read_line(&mut line).expect("says it");
    let server: u32 = line.trim().parse().expect("a process id");
    assert!(runs(server));
    daemon.kill().expect("ours");
    daemon.wait().expect("ended");
    let deadline = Instant::now() + Duration::from_secs(1);
    while runs(server) {
        assert!(Instant::now() < deadline, "the server outlived its daemon by a second");
        std::thread::yield_now();
    }
}

fn orphans() {
    let own = std::env::current_exe().expect("known");
    let status = Command::new(own).args(["act", "be-init", "100"]).status().expect("runs");
    assert!(status.success(), "{status}");
}
