//! Processes that the daemon cannot kill. The daemon runs without CAP_KILL and its server as another user, so that every
//! signal fails, as with a process in an uninterruptible system call.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use llama_warden_events::{Envelope, Event, FailureReason};
use llama_warden_stand_in::{Script, ScriptAction, ScriptPhase, TermScript};
use llama_warden_state::PhaseName;
use llama_warden_tests::{
    DaemonOptions, ProcessInfo, Sandbox, TestDaemon, WAIT_LIMIT, action_at, eventually, executable, is_root,
    processes_with, sandbox, stand_in_program,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

/// Runs a program as the user `nobody`, with a capability to read the test's directory.
const OTHER_USER: &str = "setpriv --reuid=65534 --inh-caps=+dac_override --ambient-caps=+dac_override --";

fn without_cap_kill() -> DaemonOptions {
    let under = ["setpriv", "--bounding-set=-kill", "--inh-caps=-kill"];
    DaemonOptions { under: under.map(str::to_owned).to_vec(), ..DaemonOptions::default() }
}

/// A llama-server that changes its user before it serves.
pub(crate) fn server_of_another_user(sandbox: &Sandbox) -> PathBuf {
    let stand_in = stand_in_program();
    let stand_in = stand_in.display();
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in --version|--help) exec '{stand_in}' \"$@\";; esac\nexec {OTHER_USER} '{stand_in}' \"$@\"\n"
    );
    executable(&sandbox.file("stranger/llama-server"), &script)
}

/// Kills processes with the rights of the test, and waits until they are gone.
async fn kill_and_wait(pids: impl IntoIterator<Item = u32>) {
    for pid in pids {
        kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), Signal::SIGKILL).expect("it is still there");
        eventually("it is gone", WAIT_LIMIT, async || ProcessInfo::of(pid).is_none_or(|process| process.is_zombie))
            .await;
    }
}

fn binary(path: &Path) -> String {
    format!("binary = \"{}\"\nstop = {{ grace = \"200ms\" }}", path.display())
}

async fn becomes_unkillable(daemon: &TestDaemon, id: &str) {
    let unkillable =
        |event: &Envelope| matches!(event.event, Event::ServerFailed { reason: FailureReason::Unkillable, .. });
    daemon.event(&format!("{id} is unkillable"), unkillable).await;
}

/// Fault C36.
#[test]
fn a_server_that_outlives_kill_keeps_its_slot_and_is_not_started_again() {
    if !is_root() {
        return;
    }
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\npolicy = \"always\"\ninitial-delay = \"10ms\"");
        fleet
            .server_with("a", Script::default(), &binary(&server_of_another_user(sandbox)))
            .server("b", Script::default());
        fleet.daemon("shutdown-deadline = \"3s\"");
        let daemon = sandbox.up_with(&fleet, &without_cap_kill()).await;
        daemon.ready("a").await;
        daemon.ready("b").await;
        let pid = daemon.report("a").await.pid.expect("it runs");
        daemon.command("a", "restart").await.expect(202);
        becomes_unkillable(&daemon, "a").await;
        let report = daemon.report("a").await;
        assert_eq!((report.pid, report.is_running, report.is_ready), (Some(pid), true, false));
        assert_eq!(report.last_failure.map(|failure| failure.reason), Some(FailureReason::Unkillable));
        assert_eq!(daemon.count("a", "LaunchBegan").await, 1, "its slot is taken");
        assert!(daemon.report("b").await.is_ready);
        // Once the process is gone, the server is launched again.
        kill_and_wait([pid]).await;
        daemon
            .event("it is launched again", |event| {
                matches!(event.event, Event::ReadyReached { .. })
                    && event.incarnation.is_some_and(|launch| launch.get() == 2)
            })
            .await;
        let next = daemon.report("a").await.pid.expect("it runs");
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 1, "{}", daemon.log());
        kill_and_wait([next]).await;
    });
}

/// Fault S19.
#[test]
fn a_shutdown_with_one_that_cannot_be_killed_ends_at_its_deadline_and_names_it() {
    if !is_root() {
        return;
    }
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.daemon("shutdown-deadline = \"6s\"");
        fleet.server_with("deaf", Script::default(), &binary(&server_of_another_user(sandbox)));
        let slow = ["s1", "s2", "s3", "s4", "s5"];
        for id in slow {
            fleet.server(id, Script { term: TermScript::Slow(1000), ..Script::default() });
        }
        let daemon = sandbox.up_with(&fleet, &without_cap_kill()).await;
        for id in ["deaf"].into_iter().chain(slow) {
            daemon.ready(id).await;
        }
        let pid = daemon.report("deaf").await.pid.expect("it runs");
        let asked = Instant::now();
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 1);
        let took = asked.elapsed();
        assert!(took < Duration::from_secs(6 + 3), "{took:?}");
        assert!(daemon.log().contains(&format!("deaf (pid {pid})")), "{}", daemon.log());
        let events = daemon.event_stream().events();
        let forced = |id: &str| {
            events.iter().find_map(|event| match event.event {
                Event::ServerStopped { forced, .. }
                    if event.server.as_ref().is_some_and(|server| server.as_str() == id) =>
                {
                    Some(forced)
                }
                _ => None,
            })
        };
        assert_eq!(slow.map(forced), [Some(false); 5], "the others had their time");
        let named = events.iter().any(|event| {
            matches!(&event.event, Event::DaemonStopped { survivors } if survivors.iter().map(|id| id.as_str()).eq(["deaf"]))
        });
        assert!(named, "the last event names it");
        kill_and_wait([pid]).await;
    });
}

/// Faults C28 and C18: the process is reported with its pid, the server is not started beside it, and its output is
/// ignored.
#[test]
fn beside_a_descendant_that_cannot_be_killed_nothing_is_started() {
    if !is_root() {
        return;
    }
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let name = format!("stray-{:x}", fastrand::u64(..));
        let once = sandbox.file("once");
        let stray = format!("trap \"\" PIPE; : {name}; for i in $(seq 600); do echo chatter; sleep 0.1; done");
        let binary = executable(
            &sandbox.file("leaves-a-stray/llama-server"),
            &format!(
                "#!/bin/sh\n[ $# -gt 1 ] && [ ! -e '{once}' ] && touch '{once}' && \
                 (setsid env -i {OTHER_USER} sh -c '{stray}' &)\nexec '{stand_in}' \"$@\"\n",
                once = once.display(),
                stand_in = stand_in_program().display(),
            ),
        );
        let mut leave = action_at(ScriptPhase::Ready, ScriptAction::Exit { code: 3, last_words: None });
        leave.after_ms = 500;
        let keys = format!("binary = \"{}\"", binary.display());
        fleet.server_with("a", Script { actions: vec![leave], ..Script::default() }, &keys);
        let daemon = sandbox.up_with(&fleet, &without_cap_kill()).await;
        let exited = daemon.exited("a").await;
        let strays = || processes_with(&format!(": {name};"));
        assert_eq!(strays().len(), 1, "{:?}", strays());
        let pid = strays()[0].pid;
        let reported = |event: &Envelope| matches!(&event.event, Event::ServerWarned { detail, .. } if detail.contains(&format!("process {pid}")));
        assert!(daemon.event("it is reported", reported).await.seq < exited.seq);
        let output = daemon.output("a").await;
        fleet.rewrite("a", &Script::default());
        let refused = daemon.command("a", "start?wait=30s").await.expect(502);
        assert_eq!(refused.json()["reason"], "unkillable", "{}", refused.text());
        let report = daemon.report("a").await;
        assert_eq!((report.phase, report.pid), (PhaseName::Failed, None));
        assert_eq!(daemon.output("a").await, output, "it still writes, and nobody reads it");
        kill_and_wait([pid]).await;
        daemon.command("a", "start?wait=30s").await.expect(200);
    });
}
