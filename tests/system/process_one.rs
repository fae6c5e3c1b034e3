//! The daemon as process 1 of a PID namespace, as in a container without another init.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes. These tests need a PID namespace: as root they make
//! one, otherwise within a user namespace. Where the kernel permits neither, they fail.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use llama_warden_events::{Event, ProcessEnd};
use llama_warden_stand_in::{Grandchild, Script, ScriptAction, ScriptPhase, TermScript};
use llama_warden_tests::{
    DaemonOptions, ProcessInfo, Sandbox, TestDaemon, TestFleet, WAIT_LIMIT, action_at, descendants, eventually,
    executable, is_root, measured, own_namespaces, processes_with, sandbox,
};
use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::time::Instant;

use crate::unkillable::server_of_another_user;

fn as_process_one() -> DaemonOptions {
    let under = own_namespaces(&["--pid", "--fork", "--kill-child", "--mount-proc"]);
    DaemonOptions { under, ..DaemonOptions::default() }
}

/// Starts a daemon as process 1, and waits until it answers.
async fn up(sandbox: &Sandbox, fleet: &TestFleet) -> TestDaemon {
    up_with(sandbox, fleet, &as_process_one()).await
}

async fn up_with(sandbox: &Sandbox, fleet: &TestFleet, options: &DaemonOptions) -> TestDaemon {
    let daemon = sandbox.launch(fleet, options);
    daemon.answering().await;
    let inner = descendants(daemon.outer_pid()).into_iter().find(|child| child.parent == daemon.outer_pid());
    daemon.set_pid(inner.expect("unshare runs the daemon").pid);
    let started = daemon.event("it starts", |event| event.event.kind() == "DaemonStarted").await;
    assert!(matches!(started.event, Event::DaemonStarted { pid: 1, .. }), "{started:?}");
    daemon
}

/// A shell command in the daemon's namespace, as `docker exec` runs it. The daemon has not started it, and gets the processes
/// that it leaves behind.
fn stranger(sandbox: &Sandbox, daemon: &TestDaemon, script: &str) -> Command {
    let mut command = sandbox.program("nsenter");
    command.args(["--target", &daemon.pid().to_string()]);
    if !nix::unistd::geteuid().is_root() {
        command.args(["--user", "--preserve-credentials"]);
    }
    command.args(["--pid", "--mount", "sh", "-c", script]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

async fn run_stranger(sandbox: &Sandbox, daemon: &TestDaemon, script: &str) {
    let status = stranger(sandbox, daemon, script).status().await.expect("nsenter runs");
    assert!(status.success(), "nsenter {script}: {status}");
}

/// The processes in the daemon's PID namespace, zombies included.
fn members(namespace: &Path) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok_and(|link| link == namespace)).collect()
}

fn namespace_of(pid: u32) -> std::path::PathBuf {
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).expect("it runs")
}

fn zombies_of(daemon: &TestDaemon) -> Vec<ProcessInfo> {
    descendants(daemon.pid()).into_iter().filter(|process| process.is_zombie).collect()
}

/// Fault S16: 500 orphans of strangers, while servers exit with codes of their own and commands cannot be executed.
#[test]
fn five_hundred_orphans_are_reaped_amid_exits_and_failed_execs_and_every_exit_is_right() {
    const ORPHANS: usize = 500;
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        // The kernel refuses to execute these: the interpreter of their first line does not exist.
        let broken = executable(&sandbox.file("broken/hook"), "#!/nonexistent/interpreter\n");
        let hooks = format!("hooks = {{ post-exit = [\"{}\"] }}", broken.display());
        let ids: Vec<(String, u8)> = (1..=20).map(|code| (format!("s{code}"), code)).collect();
        for (id, code) in &ids {
            let exit = ScriptAction::Exit { code: i32::from(*code), last_words: None };
            let script = Script { actions: vec![action_at(ScriptPhase::Loading, exit)], ..Script::default() };
            fleet.server_with(id, Script { load_ms: 60_000, ..script }, &format!("enabled = false\n{hooks}"));
        }
        // Orphans of a server, too.
        let left = Grandchild { count: 30, life_ms: 300, detach: true, hold_pipe: false, ..Grandchild::default() };
        let spawn = action_at(ScriptPhase::Ready, ScriptAction::Spawn(left));
        fleet.server("stays", Script { actions: vec![spawn], ..Script::default() });
        let daemon = up(sandbox, &fleet).await;
        daemon.ready("stays").await;
        let before = daemon.report("stays").await.pid;

        // Each background process outlives the shell that started it, and ends at another moment.
        let tag = fastrand::u32(100_000..999_999);
        let orphan = format!("i=0; while [ $i -lt {ORPHANS} ]; do (sleep $((1 + i % 3)).1{tag} &); i=$((i + 1)); done");
        let mut orphans = stranger(sandbox, &daemon, &orphan).spawn().expect("nsenter runs");
        for (id, _) in &ids {
            daemon.command(id, "start").await.expect(202);
        }
        let still_sleeps = || processes_with(&format!(".1{tag}")).len();
        let adopted = || {
            let family = descendants(daemon.pid());
            family.iter().filter(|process| process.parent == daemon.pid() && process.command.contains("sleep")).count()
        };
        eventually("process 1 gets orphans", WAIT_LIMIT, async || adopted() >= 50).await;
        assert!(orphans.wait().await.expect("it is waited for").success());
        for (id, code) in &ids {
            daemon.exited(id).await;
            assert_eq!(daemon.server(id).await.last_end, Some(ProcessEnd::Exited { code: *code }), "{id}");
            let failed = |event: &llama_warden_events::Envelope| {
                event.server.as_ref().is_some_and(|server| server.as_str() == id)
                    && matches!(event.event, Event::HookCompleted { .. })
            };
            let hook = daemon.event("its hook cannot be executed", failed).await;
            assert!(format!("{hook:?}").contains("Failed"), "{hook:?}");
        }
        eventually("every orphan has ended", WAIT_LIMIT, async || still_sleeps() == 0).await;
        let ended = Instant::now();
        eventually("no zombie is left", Duration::from_secs(5), async || zombies_of(&daemon).is_empty()).await;
        measured("S16", "last orphan reaped after", ended.elapsed());
        let report = daemon.report("stays").await;
        assert_eq!((report.is_ready, report.pid), (true, before));
        daemon.command("stays", "restart?wait=50s").await.expect(200);
        eventually("no zombie is left", Duration::from_secs(5), async || zombies_of(&daemon).is_empty()).await;
    });
}

/// Fault S1: the kernel ends a PID namespace with its process 1.
#[test]
fn the_death_of_process_one_takes_every_server_and_every_stranger_along() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let escaped =
            Grandchild { count: 3, detach: true, scrub_env: true, ignore_term: true, ..Grandchild::default() };
        let spawn = action_at(ScriptPhase::Ready, ScriptAction::Spawn(escaped));
        fleet.server("a", Script { actions: vec![spawn], term: TermScript::Ignore, ..Script::default() });
        fleet.server("loading", Script { load_ms: 60_000, ..Script::default() });
        let daemon = up(sandbox, &fleet).await;
        daemon.ready("a").await;
        run_stranger(sandbox, &daemon, "for i in 1 2 3; do setsid sleep 300 & done").await;
        let namespace = namespace_of(daemon.pid());
        // The daemon, two servers, three escaped processes, three strangers.
        eventually("all of them run", WAIT_LIMIT, async || members(&namespace).len() >= 9).await;
        let killed = Instant::now();
        daemon.signal(Signal::SIGKILL);
        daemon.exit().await;
        eventually("nothing is left", Duration::from_secs(5), async || members(&namespace).is_empty()).await;
        measured("S1", "process 1 killed, nothing left after", killed.elapsed());
        let next = up(sandbox, &fleet).await;
        next.ready("a").await;
    });
}

/// Sends a signal by its number to the daemon; the real-time signals have no name in nix.
async fn send(daemon: &TestDaemon, number: i32) {
    let status = Command::new("sh").args(["-c", &format!("kill -{number} {}", daemon.pid())]).status().await;
    assert!(status.expect("a shell").success(), "signal {number}");
}

/// Faults S8 and S32: TERM, INT, PWR, and RTMIN+3 by which systemd stops a container. The kernel delivers to process 1 only
/// signals that it handles.
#[test]
fn one_signal_to_process_one_stops_everything_in_order() {
    for number in [15, 2, 30, 37] {
        sandbox(async |sandbox| {
            let mut fleet = sandbox.fleet();
            fleet.server("a", Script::default());
            let daemon = up(sandbox, &fleet).await;
            daemon.ready("a").await;
            let namespace = namespace_of(daemon.pid());
            run_stranger(sandbox, &daemon, "setsid sleep 300 &").await;
            // Signals without a meaning neither end process 1 nor disturb it.
            for meaningless in [14, 29, 40] {
                send(&daemon, meaningless).await;
            }
            eventually("they are warned of", WAIT_LIMIT, async || daemon.log().contains("signal=RTMIN+6")).await;
            assert!(daemon.report("a").await.is_ready);
            send(&daemon, number).await;
            let stopped = daemon.event("it stops", |event| event.event.kind() == "ServerStopped").await;
            assert!(matches!(stopped.event, Event::ServerStopped { forced: false, .. }), "{number}: {stopped:?}");
            assert_eq!(daemon.exit_code().await, 0, "{number}: {}", daemon.log());
            eventually("nothing is left", WAIT_LIMIT, async || members(&namespace).is_empty()).await;
        });
    }
}

/// Fault S8.
#[test]
fn a_second_signal_to_process_one_kills_and_shows_in_the_exit_code() {
    for (signals, code) in [([15, 15].as_slice(), 143), (&[2, 2], 130), (&[15, 2], 130), (&[3], 131)] {
        sandbox(async |sandbox| {
            let mut fleet = sandbox.fleet();
            let stubborn = Script { term: TermScript::Ignore, ..Script::default() };
            fleet.server_with("a", stubborn, "stop = { grace = \"1h\" }").daemon("shutdown-deadline = \"1h\"");
            let daemon = up(sandbox, &fleet).await;
            daemon.ready("a").await;
            let namespace = namespace_of(daemon.pid());
            send(&daemon, signals[0]).await;
            if let Some(second) = signals.get(1) {
                daemon.event("TERM is sent", |event| event.event.kind() == "SignalDelivered").await;
                send(&daemon, *second).await;
            }
            assert_eq!(daemon.exit_code().await, code, "{signals:?}: {}", daemon.log());
            eventually("nothing is left", WAIT_LIMIT, async || members(&namespace).is_empty()).await;
        });
    }
}

/// Faults S8 and S19: the daemon may not kill its server, leaves with the third signal, and the kernel ends the rest of the
/// namespace.
#[test]
fn a_third_signal_to_process_one_leaves_at_once_and_takes_along_what_it_could_not_kill() {
    if !is_root() {
        return;
    }
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let binary = server_of_another_user(sandbox);
        let keys = format!("binary = \"{}\"\nstop = {{ grace = \"1h\" }}", binary.display());
        fleet.server_with("a", Script::default(), &keys).daemon("shutdown-deadline = \"1h\"");
        let mut options = as_process_one();
        options.under.extend(["setpriv", "--bounding-set=-kill", "--inh-caps=-kill"].map(str::to_owned));
        let daemon = up_with(sandbox, &fleet, &options).await;
        daemon.ready("a").await;
        let namespace = namespace_of(daemon.pid());
        send(&daemon, 15).await;
        daemon.event("it stops", |event| event.event.kind() == "DaemonStopping").await;
        send(&daemon, 15).await;
        eventually("the second is heard", WAIT_LIMIT, async || daemon.log().contains("as the signal asks")).await;
        assert!(members(&namespace).len() >= 2, "the server cannot be killed");
        send(&daemon, 15).await;
        assert_eq!(daemon.exit_code().await, 143, "{}", daemon.log());
        eventually("nothing is left", WAIT_LIMIT, async || members(&namespace).is_empty()).await;
    });
}

/// Process 1 that cannot start says why, with the exit code of any other daemon.
#[test]
fn process_one_that_cannot_start_ends_with_the_code_of_its_reason() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.daemon("no-such-key = 1");
        let daemon = sandbox.launch(&fleet, &as_process_one());
        assert_eq!(daemon.exit_code().await, 2, "{}", daemon.log());
        assert!(daemon.log().contains("no-such-key"), "{}", daemon.log());
    });
}
