//! Servers that outlive their daemon, and the daemons that take them over.

use std::fs;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use llama_warden_events::{Event, ProcessEnd, ReadyVia};
use llama_warden_stand_in::Script;
use llama_warden_tests::{
    DaemonOptions, Endpoint, ProcessInfo, TestDaemon, TestRequest, WAIT_LIMIT, eventually, measured, processes_with,
    sandbox,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

const ADOPT: &str = "on-daemon-death = \"adopt\"";

async fn pid(daemon: &TestDaemon, id: &str) -> u32 {
    daemon.report(id).await.pid.expect("it runs")
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), signal).expect("ours");
}

/// Kills a daemon with SIGKILL, and waits until it is gone.
/// Fault S2.
#[test]
fn servers_outlive_a_killed_daemon_and_the_next_one_goes_on_with_them() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.daemon(ADOPT);
        let mark = sandbox.file("hooked");
        let hook = format!("hooks = {{ post-ready = [\"/bin/sh\", \"-c\", \"echo x >> {}\"] }}", mark.display());
        fleet.server_with("a", Script::default(), &hook).server("b", Script::default());
        let first = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        let pids = [pid(&first, "a").await, pid(&first, "b").await];
        let has_run = async || fs::read_to_string(&mark).is_ok_and(|text| text == "x\n");
        eventually("the hook has run", WAIT_LIMIT, has_run).await;
        first.killed().await;
        assert!(pids.into_iter().all(ProcessInfo::runs), "they run on");
        let server = Endpoint::Tcp(fleet.port("a"));
        TestRequest::get("/health").send(&server).await.expect("it answers").expect(200);

        let next = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        assert_eq!([pid(&next, "a").await, pid(&next, "b").await], pids);
        let report = next.report("a").await;
        assert_eq!(report.ready_via, Some(ReadyVia::Adopted));
        assert_eq!(fs::read_to_string(&mark).expect("written"), "x\n", "the command of a start is not run again");

        // Its end is seen as that of any server.
        let seen = Instant::now();
        signal(pids[0], Signal::SIGKILL);
        let exited = next.exited("a").await;
        assert!(matches!(exited.event, Event::ServerExited { end: ProcessEnd::Signaled { .. }, .. }), "{exited:?}");
        measured("S2", "end of a server that was taken over, seen after", seen.elapsed());
        next.command("b", "stop?wait=30s").await.expect(200);
        assert!(!ProcessInfo::runs(pids[1]));
    });
}

/// Fault S2: what the next daemon would not launch like this is not kept, and what ended meanwhile is told.
#[test]
fn the_next_daemon_keeps_what_it_would_launch_and_ends_the_rest() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.daemon(ADOPT);
        fleet.section("[restart]\ninitial-delay = \"10ms\"");
        fleet.server("kept", Script::default()).server("ended", Script::default());
        fleet.server("changed", Script::default()).server("removed", Script::default());
        let ids = ["kept", "ended", "changed", "removed"];
        let first = sandbox.up_until_ready(&fleet, &ids).await;
        let mut pids = Vec::new();
        for id in ids {
            pids.push(pid(&first, id).await);
        }
        first.killed().await;
        signal(pids[1], Signal::SIGKILL);
        eventually("it has ended", WAIT_LIMIT, async || !ProcessInfo::runs(pids[1])).await;

        fleet.remove("removed").change("changed", "flags = { ctx-size = 4096 }");
        let next = sandbox.up(&fleet).await;
        let ended = next.exited("ended").await;
        let by_kill = |end: &ProcessEnd| matches!(end, ProcessEnd::Signaled { signal, .. } if signal.number() == 9);
        assert!(matches!(&ended.event, Event::ServerExited { end, .. } if by_kill(end)), "its true end: {ended:?}");
        for id in ["kept", "changed"] {
            next.ready(id).await;
        }
        assert_eq!(pid(&next, "kept").await, pids[0]);
        assert_ne!(pid(&next, "changed").await, pids[2]);
        eventually("the others are gone", WAIT_LIMIT, async || {
            !ProcessInfo::runs(pids[2]) && !ProcessInfo::runs(pids[3])
        })
        .await;
    });
}

/// Faults S2 and S4: sockets of killed shims, and of strangers.
#[test]
fn what_is_no_shim_is_not_taken_over_and_not_touched() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.daemon(ADOPT);
        fleet.server("a", Script::default());
        let first = sandbox.up_until_ready(&fleet, &["a"]).await;
        let server = pid(&first, "a").await;
        let shim = ProcessInfo::of(server).expect("it runs").parent;
        first.killed().await;
        // The server dies with its shim, whose socket stays.
        signal(shim, Signal::SIGKILL);
        eventually("it is gone", WAIT_LIMIT, async || !ProcessInfo::runs(server)).await;
        let folder = fleet.state_dir().join("shims");
        let mute = UnixListener::bind(folder.join("mute.1")).expect("ours");
        let babbler = UnixListener::bind(folder.join("babbler.2")).expect("ours");
        let talk = std::thread::spawn(move || {
            use std::io::Write;
            let (mut stream, _) = babbler.accept().expect("the daemon asks");
            stream.write_all(&[0xff; 64]).expect("sent");
        });
        fs::write(folder.join("text"), "no socket").expect("ours");
        let next = sandbox.up_until_ready(&fleet, &["a"]).await;
        assert_ne!(pid(&next, "a").await, server);
        assert!(next.log().contains("nothing is taken over"), "{}", next.log());
        talk.join().expect("no panic");
        drop(mute);
    });
}

#[test]
fn a_daemon_replaces_a_running_one_and_servers_do_not_notice() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        // Also where servers end with their daemon otherwise.
        fleet.server("a", Script::default()).server("b", Script::default());
        let first = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        let pids = [pid(&first, "a").await, pid(&first, "b").await];
        let options = DaemonOptions { arguments: vec!["--take-over".to_owned()], ..DaemonOptions::default() };
        let next = sandbox.launch(&fleet, &options);
        assert_eq!(first.exit_code().await, 0, "{}", first.log());
        next.answering().await;
        for id in ["a", "b"] {
            next.ready(id).await;
        }
        assert_eq!([pid(&next, "a").await, pid(&next, "b").await], pids);
        assert_eq!(next.report("b").await.ready_via, Some(ReadyVia::Adopted));
        next.command("a", "restart?wait=50s").await.expect(200);
        assert!(!ProcessInfo::runs(pids[0]));
        // Without the policy they end with this daemon as with the first one.
        next.killed().await;
        let home = sandbox.path().to_string_lossy().into_owned();
        eventually("nothing is left", Duration::from_secs(5), async || processes_with(&home).is_empty()).await;
    });
}

#[test]
fn a_new_daemon_that_could_not_start_leaves_the_old_one_alone() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let first = sandbox.up_until_ready(&fleet, &["a"]).await;
        let server = pid(&first, "a").await;
        for arguments in [["up", "--take-over", "--profile=nosuch"], ["up", "--take-over", "--server=nosuch"]] {
            let ran = sandbox.run(first.config(), arguments).await.expect(2);
            assert!(ran.stderr.contains("nosuch"), "{}", ran.stderr);
        }
        assert_eq!(pid(&first, "a").await, server);
        assert!(first.report("a").await.is_ready);
    });
}
