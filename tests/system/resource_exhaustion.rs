//! The machine lacks descriptors, processes, pidfds, `/proc` or processor time.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::time::Duration;

use llama_warden_events::{Envelope, Event, FailureReason};
use llama_warden_stand_in::{Grandchild, ScheduledAction, Script, ScriptAction, ScriptPhase};
use llama_warden_tests::{
    DaemonOptions, ProcessInfo, ProgramRun, TestDaemon, TestRequest, WAIT_LIMIT, action_at, descendants, eventually,
    executable, is_root, open_files, own_namespaces, programs_of, sandbox,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

fn under(words: &[&str]) -> DaemonOptions {
    DaemonOptions { under: words.iter().map(|word| (*word).to_owned()).collect(), ..DaemonOptions::default() }
}

/// The number of running servers by the status, and of the processes below the daemon by `/proc`.
async fn running(daemon: &TestDaemon) -> (usize, usize) {
    let status = daemon.status().await;
    let children = programs_of(daemon.pid()).len();
    (status.running_servers as usize, children)
}

/// Fault S7: more servers than descriptors.
#[test]
fn a_daemon_without_descriptors_goes_on_and_its_failures_pass() {
    const SERVERS: usize = 24;
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\ninitial-delay = \"50ms\"\nmax-delay = \"100ms\"\nmax-attempts = 2");
        // A probe that cannot be made fails at once; the long timeout keeps a slow machine from looking like a hanging server.
        fleet.section("[health]\ninterval = \"200ms\"\ntimeout = \"20s\"\nfailures = 2");
        for slot in 0..SERVERS {
            fleet.server(&format!("s{slot}"), Script::default());
        }
        let daemon = sandbox.up_with(&fleet, &under(&["prlimit", "--nofile=72:72"])).await;
        let settled = |daemon: &TestDaemon| {
            let daemon = daemon.clone();
            async move {
                let status = daemon.status().await;
                status.servers.iter().all(|server| server.is_ready || server.restart_abandoned.is_some())
            }
        };
        eventually("every server is up or given up", WAIT_LIMIT, async || settled(&daemon).await).await;
        let status = daemon.status().await;
        let up = status.ready_servers as usize;
        assert!((6..SERVERS).contains(&up), "{up} are up");
        let events = daemon.event_stream().events();
        for event in &events {
            if let Event::ServerFailed { reason, detail, .. } = &event.event {
                assert_eq!(*reason, FailureReason::SpawnFailed, "{:?}: {detail}", event.server);
            }
        }
        assert_eq!(running(&daemon).await, (up, up), "nothing leaks");
        // Ready servers stay up, since a probe that the daemon cannot make says nothing about a server. Freed descriptors
        // are used.
        let (up, down): (Vec<_>, Vec<_>) = status.servers.iter().partition(|server| server.is_ready);
        // A launch needs more descriptors than a running server, so several are stopped.
        let (stopped, up) = up.split_at(up.len().min(5));
        for server in stopped {
            daemon.command(server.model_id.as_str(), "stop?wait=30s").await.expect(200);
        }
        daemon.command(down[0].model_id.as_str(), "start?wait=30s").await.expect(200);
        for before in up {
            let report = daemon.report(before.model_id.as_str()).await;
            assert_eq!((report.is_ready, report.pid), (true, before.pid), "{}", before.model_id);
        }
    });
}

/// Faults C30 and S7: a server starts processes up to the limit of its user.
#[test]
fn a_fork_bomb_ends_with_its_server_and_the_daemon_survives_it() {
    if !is_root() {
        return;
    }
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let bomb = Grandchild { count: 500, life_ms: 60_000, ignore_term: true, ..Grandchild::default() };
        fleet.server(
            "bomb",
            Script { actions: vec![action_at(ScriptPhase::Ready, ScriptAction::Spawn(bomb))], ..Script::default() },
        );
        fleet.server_with("late", Script::default(), "enabled = false");
        // A user without any other processes that would count, with a capability to read the test's directory.
        let user = format!("--reuid={}", fastrand::u32(100_000..2_000_000));
        let caps =
            ["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--bounding-set=-sys_resource,-sys_admin"];
        let words = ["setpriv", &user, caps[0], caps[1], caps[2], "prlimit", "--nproc=90:90"];
        let daemon = sandbox.up_with(&fleet, &under(&words)).await;
        daemon.ready("bomb").await;
        let pid = daemon.report("bomb").await.pid.expect("it runs");
        let output = || daemon.output("bomb");
        eventually("no process can be made", WAIT_LIMIT, async || output().await.contains("Resource temporarily"))
            .await;
        assert!(descendants(pid).len() > 20, "{}", descendants(pid).len());
        // The limit may leave one more process; this takes even that from the daemon.
        set_limit(&daemon, &user, "1:90").await;
        // await: idle threads of tokio's blocking pool exit after ten seconds, and then the daemon cannot start new ones.
        sleep(Duration::from_secs(11)).await;
        let refused = daemon.command("late", "start?wait=30s").await.expect(502);
        assert_eq!(refused.json()["reason"], "spawn-failed", "{}", refused.text());
        daemon.post("/api/v1/reload?wait=30s").await.expect(200);
        let asked = Instant::now();
        daemon.command("bomb", "stop?force=1&wait=50s").await.expect(200);
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        eventually("all of them are gone", WAIT_LIMIT, async || programs_of(daemon.pid()).is_empty()).await;
        set_limit(&daemon, &user, "90:90").await;
        daemon.command("late", "start?wait=30s").await.expect(200);
    });
}

/// Fault S7: a limit of processes that leaves the daemon too few threads is an error, or a daemon that does less.
#[test]
fn a_daemon_with_too_few_processes_says_so_instead_of_panicking() {
    if !is_root() {
        return;
    }
    // The router has a thread and a runtime of its own, and may fail once the daemon is up.
    for (limit, router) in (1..12).flat_map(|limit| [(limit, false), (limit, true)]) {
        sandbox(async |sandbox| {
            let mut fleet = sandbox.fleet();
            fleet.section("[readiness]\ndetectors-dir = \"packs\"");
            if router {
                fleet.section("[router]\nlisten = \"127.0.0.1:0\"");
            }
            let user = format!("--reuid={}", fastrand::u32(100_000..2_000_000));
            let caps =
                ["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--bounding-set=-sys_resource,-sys_admin"];
            let nproc = format!("--nproc={limit}:{limit}");
            let words = ["prlimit", &nproc, "setpriv", &user, caps[0], caps[1], caps[2]];
            let daemon = sandbox.launch(&fleet, &under(&words));
            let control = daemon.control();
            let up = if router { "the router listens" } else { "is up" };
            eventually("it is up or ends", WAIT_LIMIT, async || {
                daemon.log().contains(up)
                    || daemon.log().contains("cannot")
                    || control.answers("/livez").await && !router
            })
            .await;
            let is_up = if router { daemon.log().contains(up) } else { control.answers("/livez").await };
            if is_up {
                daemon.signal(Signal::SIGTERM);
            }
            let code = daemon.exit_code().await;
            let log = daemon.log();
            assert!(!log.contains("panicked"), "{limit}: {log}");
            assert_eq!(code, i32::from(!is_up), "{limit}: {log}");
        });
    }
}

/// Sets the limit of processes that applies when the daemon or its guardian forks.
async fn set_limit(daemon: &TestDaemon, user: &str, limit: &str) {
    let below = descendants(daemon.pid()).into_iter().filter(ProcessInfo::is_guardian_or_shim);
    for pid in below.map(|process| process.pid).chain([daemon.pid()]) {
        // Run as that user: root of a container lacks the right.
        let mut command = tokio::process::Command::new("setpriv");
        command.args([user, "prlimit", &format!("--pid={pid}"), &format!("--nproc={limit}")]);
        let ran = ProgramRun::to_end(command).await;
        // A shim may end meanwhile.
        assert!(ran.code() == 0 || !ProcessInfo::runs(pid), "{ran:?}");
    }
}

/// Fault S7: a seccomp filter answers every fork, but not a thread or `posix_spawn`, which needs no copy of memory, with ENOMEM.
#[test]
fn without_memory_for_a_process_launches_fail_are_tried_again_and_the_daemon_answers() {
    let filter = "
import ctypes, os, platform, struct, sys
CLONE, CLONE3, OTHERS = (56, 435, [57]) if platform.machine() == 'x86_64' else (220, 435, [])
ENOMEM, ENOSYS, SHARES_MEMORY = 12, 38, 0x100
def step(code, yes, no, k): return struct.pack('HBBI', code, yes, no, k)
def answer(error): return step(0x06, 0, 0, 0x00050000 | error)
program = step(0x20, 0, 0, 0) + step(0x15, 0, 1, CLONE3) + answer(ENOSYS)
for number in OTHERS: program += step(0x15, 0, 1, number) + answer(ENOMEM)
program += step(0x15, 0, 3, CLONE) + step(0x20, 0, 0, 16) + step(0x45, 1, 0, SHARES_MEMORY) + answer(ENOMEM)
program += step(0x06, 0, 0, 0x7fff0000)
text = ctypes.create_string_buffer(program)
class Program(ctypes.Structure): _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(len(program) // 8, ctypes.addressof(text)))) == 0
os.execvp(sys.argv[1], sys.argv[1:])
";
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\ninitial-delay = \"20ms\"\nmax-delay = \"50ms\"\nmax-attempts = 2");
        fleet.server("a", Script::default());
        let daemon = sandbox.up_with(&fleet, &under(&["python3", "-c", filter])).await;
        daemon.event("it is given up", |event| matches!(event.event, Event::RestartAbandoned { .. })).await;
        let events = daemon.events_of("a").await;
        let failures = events.iter().filter_map(|event| match &event.event {
            Event::ServerFailed { reason, detail, .. } => Some((*reason, detail.as_str())),
            _ => None,
        });
        let failures: Vec<_> = failures.collect();
        assert_eq!(failures.len(), 3, "{failures:?}");
        for (reason, detail) in failures {
            assert_eq!(reason, FailureReason::SpawnFailed, "{detail}");
            assert!(detail.contains("Cannot allocate memory"), "{detail}");
        }
        assert_eq!(running(&daemon).await, (0, 0), "nothing leaks");
    });
}

/// Fault S17: a seccomp filter answers the pidfd calls with ENOSYS, as kernels before 5.3 do.
#[test]
fn without_pidfds_servers_run_stop_and_are_swept_all_the_same() {
    let filter = "
import ctypes, os, struct, sys
PIDFD_OPEN, PIDFD_SEND_SIGNAL = 434, 424
def step(code, yes, no, k): return struct.pack('HBBI', code, yes, no, k)
program = step(0x20, 0, 0, 0) + step(0x15, 1, 0, PIDFD_OPEN) + step(0x15, 0, 1, PIDFD_SEND_SIGNAL)
program += step(0x06, 0, 0, 0x00050000 | 38) + step(0x06, 0, 0, 0x7fff0000)
text = ctypes.create_string_buffer(program)
class Program(ctypes.Structure): _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(Program(5, ctypes.addressof(text)))) == 0
os.execvp(sys.argv[1], sys.argv[1:])
";
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[restart]\ninitial-delay = \"10ms\"");
        let escaped = Grandchild { life_ms: 60_000, detach: true, ..Grandchild::default() };
        fleet.server(
            "a",
            Script { actions: vec![action_at(ScriptPhase::Ready, ScriptAction::Spawn(escaped))], ..Script::default() },
        );
        let daemon = sandbox.up_with(&fleet, &under(&["python3", "-c", filter])).await;
        let ready = daemon.ready("a").await;
        assert!(daemon.log().contains("no pidfd"), "it is announced: {}", daemon.log());
        let pid = daemon.report("a").await.pid.expect("it runs");
        eventually("the grandchild is there", WAIT_LIMIT, async || daemon.output("a").await.len() > 1).await;
        kill(Pid::from_raw(i32::try_from(pid).expect("a process id")), Signal::SIGKILL).expect("it runs");
        let again = |event: &Envelope| matches!(event.event, Event::ReadyReached { .. });
        daemon.event_after(ready.seq, "it comes back", again).await;
        daemon.command("a", "stop?wait=30s").await.expect(200);
        assert_eq!(ProcessInfo::of(pid), None);
        eventually("nobody is left", WAIT_LIMIT, async || programs_of(daemon.pid()).is_empty()).await;
    });
}

/// Fault S17: without `/proc` the daemon could not find escaped descendants.
#[test]
fn without_proc_the_daemon_refuses_to_start() {
    if !is_root() {
        return;
    }
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let hidden = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /proc && exec \"$@\"", "sh"];
        let daemon = sandbox.launch(&fleet, &under(&hidden));
        assert_eq!(daemon.exit_code().await, 1, "{}", daemon.log());
        let log = daemon.log();
        assert!(log.contains("cannot read /proc") && log.contains("mount -t proc"), "{log}");
    });
}

/// Fault S17: a container mounts its control groups read-only, or none at all.
#[test]
fn with_control_groups_that_cannot_be_written_or_are_not_there_servers_run_and_are_swept() {
    for mount in [
        "mount --bind /sys/fs/cgroup /sys/fs/cgroup && mount -o remount,bind,ro /sys/fs/cgroup",
        "mount -t tmpfs -o ro none /sys/fs/cgroup",
    ] {
        sandbox(async |sandbox| {
            let mut fleet = sandbox.fleet();
            let escaped = Grandchild { life_ms: 60_000, detach: true, ..Grandchild::default() };
            let spawn = action_at(ScriptPhase::Ready, ScriptAction::Spawn(escaped));
            fleet.server("a", Script { actions: vec![spawn], ..Script::default() });
            let script = format!("{mount} && exec \"$@\"");
            let under = own_namespaces(&["--mount", "sh", "-c", &script, "sh"]);
            let daemon = sandbox.up_with(&fleet, &DaemonOptions { under, ..DaemonOptions::default() }).await;
            daemon.ready("a").await;
            let pid = daemon.report("a").await.pid.expect("it runs");
            daemon.command("a", "restart?wait=50s").await.expect(200);
            daemon.command("a", "stop?wait=50s").await.expect(200);
            assert_eq!(ProcessInfo::of(pid), None);
            eventually("nobody is left", WAIT_LIMIT, async || running(&daemon).await.0 == 0).await;
        });
    }
}

/// Fault S11: SIGSTOP stands for a machine that was suspended.
#[test]
fn a_daemon_that_was_stopped_for_a_while_blames_no_server_for_it() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.section("[health]\ninterval = \"100ms\"\ntimeout = \"100ms\"\nfailures = 2");
        let keys = "readiness = { timeout = \"60s\", on-timeout = \"fail\", stall-timeout = \"2s\" }";
        fleet.server("ready", Script::default());
        // It prints a line every half second, also while the daemon does not read.
        let chat = ScheduledAction {
            at: ScriptPhase::Loading,
            after_ms: 0,
            action: ScriptAction::Chat { every_ms: 500, lines: 12 },
        };
        fleet.server_with("loading", Script { load_ms: 6000, actions: vec![chat], ..Script::default() }, keys);
        let daemon = sandbox.up(&fleet).await;
        daemon.ready("ready").await;
        daemon.event("it speaks", |event| matches!(event.event, Event::LoadProgressed { .. })).await;
        let files = open_files(daemon.pid());
        daemon.signal(Signal::SIGSTOP);
        // await: the daemon has to be stopped for longer than every limit above.
        sleep(Duration::from_secs(30)).await;
        daemon.signal(Signal::SIGCONT);
        daemon.ready("loading").await;
        for id in ["ready", "loading"] {
            let report = daemon.report(id).await;
            assert!(report.is_ready, "{id}: {report:?}");
            assert_eq!(daemon.count(id, "ServerFailed").await, 0, "{id}");
            assert_eq!(daemon.count(id, "SignalDelivered").await, 0, "{id}");
        }
        let events = daemon.event_stream().events();
        assert!(events.len() < 100, "no storm of {} events", events.len());
        eventually("no connection is left over", WAIT_LIMIT, async || open_files(daemon.pid()) <= files + 3).await;
        TestRequest::get("/readyz").send(daemon.control()).await.expect("it answers").expect(200);
    });
}

/// Fault C5. `LLAMA_WARDEN_TEST_EXITS` sets the number of exits.
#[test]
fn no_exit_is_lost_however_soon_it_comes() {
    const PARALLEL: usize = 8;
    let exits = std::env::var("LLAMA_WARDEN_TEST_EXITS").map_or(240, |exits| exits.parse().expect("a number"));
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        let program = executable(
            &sandbox.file("brief/llama-server"),
            "#!/bin/sh\n[ $# -gt 1 ] && exit 7\necho '--model FNAME  x'\necho '--port PORT  x'\necho '--host HOST  x'\n",
        );
        fleet.binary(&program);
        let attempts = exits / PARALLEL - 1;
        fleet.section(&format!(
            "[restart]\npolicy = \"always\"\ninitial-delay = \"1ms\"\nmax-delay = \"1ms\"\nmax-attempts = {attempts}"
        ));
        let ids: Vec<String> = (0..PARALLEL).map(|slot| format!("s{slot}")).collect();
        ids.iter().for_each(|id| {
            fleet.server(id, Script::default());
        });
        let daemon = sandbox.up(&fleet).await;
        for id in &ids {
            let given_up = |event: &Envelope| {
                event.server.as_ref().is_some_and(|server| server.as_str() == id)
                    && matches!(event.event, Event::RestartAbandoned { .. })
            };
            daemon.event("every launch has ended", given_up).await;
            let events = daemon.events_of(id).await;
            let count = |kind: &str| events.iter().filter(|event| event.event.kind() == kind).count();
            assert_eq!((count("ServerSpawned"), count("ServerExited")), (attempts + 1, attempts + 1), "{id}");
            let seven = |event: &&Envelope| {
                matches!(
                    event.event,
                    Event::ServerExited { end: llama_warden_events::ProcessEnd::Exited { code: 7 }, .. }
                )
            };
            assert_eq!(events.iter().filter(seven).count(), attempts + 1, "{id}");
        }
    });
}
