//! Ends, signals and descendants of programs that shims run, and the guardian's own end.

use std::ffi::OsString;
use std::time::Duration;

use llama_warden_events::{ProcessEnd, Signal};
use llama_warden_launcher::{GuardianProgram, Spawner};
use llama_warden_processes::adoption::held_programs;
use llama_warden_processes::child_process::Spawned;
use llama_warden_processes::child_process::{ChildProcess, ProcessOutcome, SignalError};
use llama_warden_processes::spawn_request::{KeptProgram, SpawnRequest};

use crate::TestCase;
use crate::fixture::{on_runtime, read_pid, runs};

pub const TESTS: &[TestCase] = &[
    ("every_exit_code_and_every_fatal_signal_is_recorded", every_end),
    ("no_exit_is_lost_however_early_it_comes", early_exits),
    ("a_stopped_process_sees_term", stopped),
    ("a_dropped_process_is_killed_with_what_is_below_it", dropped),
    ("a_signal_without_a_name_is_refused", unnamed),
    ("term_and_its_time_are_for_every_descendant", graceful),
    ("what_a_hook_leaves_runs_on_until_the_daemon_lets_go", left_behind),
    ("a_program_that_cannot_be_run_says_why", refused),
    ("a_killed_guardian_is_replaced_and_programs_do_not_notice", guardian_killed),
    ("a_guardian_that_cannot_be_started_again_is_tried_until_it_can", guardian_missing),
    ("a_tree_that_grows_while_it_gets_term_gets_it_whole", growing),
    ("a_killed_shim_takes_its_program_along_and_no_other", shim_killed),
    ("a_shim_has_nothing_open_but_its_own", descriptors),
    ("a_program_that_no_daemon_can_find_any_more_ends", unreachable),
    ("a_program_that_was_left_is_found_by_who_looks_next_however_slow_its_shim_is", left_slowly),
];

const PATIENCE: Duration = Duration::from_secs(20);

fn spawner() -> Spawner {
    Spawner::start(GuardianProgram::OwnExecutable).expect("starts")
}

fn script(text: &str) -> SpawnRequest {
    SpawnRequest {
        name: "shim test".into(),
        program: "/bin/sh".into(),
        arguments: vec!["-c".into(), OsString::from(text)],
        environment: [("PATH".into(), "/usr/bin:/bin".into())].into(),
        lock: None,
        may_leave_descendants: false,
        kept: None,
    }
}

async fn shell(spawner: &Spawner, text: &str) -> ChildProcess {
    spawner.spawn(&script(text)).await.expect("spawns").process
}

async fn outcome(mut process: ChildProcess) -> ProcessOutcome {
    tokio::time::timeout(PATIENCE, process.exited()).await.expect("ends");
    process.outcome()
}

async fn end(process: ChildProcess) -> ProcessEnd {
    outcome(process).await.end
}

/// Waits until a file has a process id in it.
async fn pid_in(path: &std::path::Path) -> u32 {
    let is_written = async {
        while std::fs::read_to_string(path).map_or(true, |text| !text.ends_with('\n')) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, is_written).await.expect("is written");
    read_pid(path)
}

async fn gone(pid: u32) {
    let is_gone = async {
        while runs(pid) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, is_gone).await.expect("ends");
}

fn every_end() {
    on_runtime(async {
        let spawner = spawner();
        for code in 0..=255 {
            let process = shell(&spawner, &format!("exit {code}")).await;
            assert_eq!(end(process).await, ProcessEnd::Exited { code });
        }
        // Left out: signals that stop, continue or are ignored by default; 32 and 33 belong to the C library.
        let harmless = [17, 18, 19, 20, 21, 22, 23, 28, 32, 33];
        for number in (1..=64).filter(|number| !harmless.contains(number)) {
            let process = shell(&spawner, &format!("ulimit -c 0; kill -{number} $$; read never")).await;
            let expected = Signal::from_number(number).expect("a signal");
            let end = end(process).await;
            assert!(matches!(end, ProcessEnd::Signaled { signal, .. } if signal == expected), "{expected}: {end:?}");
        }
    });
}

/// Fault C5.
fn early_exits() {
    on_runtime(async {
        let spawner = spawner();
        for round in 0..10_000 {
            let process = shell(&spawner, "exit 7").await;
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            assert_eq!(end(process).await, ProcessEnd::Exited { code: 7 }, "round {round}");
        }
    });
}

fn stopped() {
    on_runtime(async {
        let process = shell(&spawner(), "kill -STOP $$; exit 3").await;
        process.deliver(Signal::TERM).expect("is sent");
        let end = end(process).await;
        assert!(matches!(end, ProcessEnd::Signaled { signal: Signal::TERM, .. }), "{end:?}");
    });
}

fn dropped() {
    on_runtime(async {
        let folder = tempfile::tempdir().expect("tempdir");
        let file = folder.path().join("pid");
        let text = format!("(setsid env -i sh -c 'echo $$ > {}; sleep 60' &); sleep 60; :", file.display());
        let process = shell(&spawner(), &text).await;
        let (leader, escaped) = (process.pid(), pid_in(&file).await);
        drop(process);
        gone(leader).await;
        gone(escaped).await;
    });
}

fn unnamed() {
    on_runtime(async {
        let process = shell(&spawner(), "exit 0").await;
        let unnamed = Signal::from_number(40).expect("a signal");
        assert!(matches!(process.deliver(unnamed), Err(SignalError::Unnamed(_))));
        end(process).await;
    });
}

/// Fault C48: wrappers that end before what they run, in every way that they do.
fn graceful() {
    on_runtime(async {
        let folder = tempfile::tempdir().expect("tempdir");
        let done = folder.path().join("done");
        let inner = format!(
            "trap 'sleep 0.3; echo done > {}; exit' TERM; echo $$ > $F; while :; do sleep 0.05; done",
            done.display()
        );
        let spawner = spawner();
        let wrappers = ["sh -c \"$I\"; exit $?", "sh -c \"$I\" | cat", "setsid -w sh -c \"$I\"", "sh -c \"$I\" & wait"];
        for (number, wrapper) in wrappers.into_iter().enumerate() {
            let file = folder.path().join(format!("pid{number}"));
            let mut request = script(wrapper);
            request.environment.extend([("I".into(), inner.clone().into()), ("F".into(), file.clone().into())]);
            let Spawned { process, stdout: _stdout, stderr: _stderr } = spawner.spawn(&request).await.expect("spawns");
            let inner = pid_in(&file).await;
            process.deliver(Signal::TERM).expect("is sent");
            let ProcessOutcome { killed, survivors, .. } = outcome(process).await;
            assert_eq!((killed, survivors.len()), (0, 0), "{wrapper}: nobody had to be killed");
            assert!(!runs(inner) && done.exists(), "{wrapper}: it had its time");
            std::fs::remove_file(&done).expect("was written");

            std::fs::remove_file(&file).expect("was written");
            let Spawned { process, .. } = spawner.spawn(&request).await.expect("spawns");
            let inner = pid_in(&file).await;
            process.deliver(Signal::KILL).expect("is sent");
            outcome(process).await;
            assert!(!runs(inner) && !done.exists(), "{wrapper}: KILL leaves no time");
        }
    });
}

fn left_behind() {
    on_runtime(async {
        let folder = tempfile::tempdir().expect("tempdir");
        let file = folder.path().join("pid");
        let text = format!(
            "setsid sh -c 'echo $$ > {0}; exec sleep 60' & until [ -s {0} ]; do sleep 0.01; done",
            file.display()
        );
        let request = SpawnRequest { may_leave_descendants: true, ..script(&text) };
        let Spawned { mut process, .. } = spawner().spawn(&request).await.expect("spawns");
        tokio::time::timeout(PATIENCE, process.exited()).await.expect("its own end counts");
        let left = read_pid(&file);
        assert!(runs(left));
        drop(process);
        gone(left).await;
    });
}

fn refused() {
    on_runtime(async {
        let spawner = spawner();
        let folder = tempfile::tempdir().expect("tempdir");
        let text = folder.path().join("text");
        std::fs::write(&text, "no program").expect("write");
        for (program, errno) in [("/no/such/program", 2), (text.to_str().expect("text"), 13)] {
            let request = SpawnRequest { program: program.into(), ..script("") };
            let error = spawner.spawn(&request).await.expect_err("cannot run");
            assert_eq!(error.raw_os_error(), Some(errno), "{program}: {error}");
        }
        let long = SpawnRequest { arguments: vec!["x".repeat(200 * 1024).into()], ..script("") };
        assert_eq!(spawner.spawn(&long).await.expect_err("too long").raw_os_error(), Some(7));
    });
}

/// Fault S25.
fn guardian_killed() {
    on_runtime(async {
        let spawner = spawner();
        let process = shell(&spawner, "exec 2>/dev/null; trap 'exit 5' TERM; while :; do sleep 0.01; done").await;
        for _ in 0..2 {
            let guardian = spawner.guardian();
            kill(guardian, Signal::KILL);
            // Also without waiting for the next one: a shim that was forked in advance is there.
            let other = shell(&spawner, "exit 3").await;
            let next =
                tokio::time::timeout(PATIENCE, spawner.next_guardian(Some(guardian))).await.expect("is replaced");
            assert_ne!(next, guardian);
            assert_eq!(end(other).await, ProcessEnd::Exited { code: 3 });
        }
        assert!(runs(process.pid()));
        process.deliver(Signal::TERM).expect("is sent");
        assert_eq!(end(process).await, ProcessEnd::Exited { code: 5 });
    });
}

/// Fault S25.
fn guardian_missing() {
    on_runtime(async {
        let folder = tempfile::tempdir().expect("tempdir");
        let path = folder.path().join("guardian");
        let program = std::env::current_exe().expect("known");
        std::os::unix::fs::symlink(&program, &path).expect("is made");
        let spawner = Spawner::start(GuardianProgram::Path(path.clone())).expect("starts");
        let (process, guardian) = (shell(&spawner, "exec sleep 60").await, spawner.guardian());
        std::fs::remove_file(&path).expect("is there");
        kill(guardian, Signal::KILL);
        // A shim that was forked in advance makes one more program.
        let mut spawned = spawner.spawn(&script("exit 3")).await;
        if spawned.is_ok() {
            spawned = spawner.spawn(&script("exit 3")).await;
        }
        let error = spawned.expect_err("nobody makes it");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        assert!(runs(process.pid()));
        std::os::unix::fs::symlink(&program, &path).expect("is made");
        let next = tokio::time::timeout(PATIENCE, spawner.next_guardian(Some(guardian))).await.expect("starts again");
        assert_eq!((next, next == guardian), (spawner.guardian(), false));
        assert_eq!(end(shell(&spawner, "exit 3").await).await, ProcessEnd::Exited { code: 3 });
    });
}

/// Fault C48: a session of its own makes processes, each of which would run for a minute.
fn growing() {
    on_runtime(async {
        let folder = tempfile::tempdir().expect("tempdir");
        let file = folder.path().join("pid");
        let spawner = spawner();
        let grow = format!("for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done; echo $$ > {}", file.display());
        let text = format!("setsid sh -c '{grow}; while :; do sleep 60 & sleep 0.001; done' & exec sleep 60");
        let process = shell(&spawner, &text).await;
        pid_in(&file).await;
        process.deliver(Signal::TERM).expect("is sent");
        let outcome = outcome(process).await;
        assert_eq!((outcome.killed, outcome.survivors), (0, Vec::new()));
    });
}

fn shim_killed() {
    on_runtime(async {
        let folder = tempfile::tempdir().expect("tempdir");
        let file = folder.path().join("pid");
        let spawner = spawner();
        let text = format!("(setsid env -i sh -c 'echo $$ > {}; sleep 60' &); sleep 60; :", file.display());
        let (one, other) = (shell(&spawner, &text).await, shell(&spawner, "exec sleep 60").await);
        let (leader, escaped) = (one.pid(), pid_in(&file).await);
        let shim = llama_warden_procfs::ProcessStat::of(leader).expect("runs").parent;
        assert_ne!(shim, spawner.guardian());
        kill(shim, Signal::KILL);
        let outcome = outcome(one).await;
        assert!(outcome.is_lost && outcome.end == ProcessEnd::Unknown, "{outcome:?}");
        gone(leader).await;
        // The guardian gets it, and kills it.
        gone(escaped).await;
        assert!(runs(other.pid()));
    });
}

/// A state directory that is removed while no daemon is there.
fn unreachable() {
    on_runtime(async {
        let folder = tempfile::tempdir().expect("tempdir");
        let shims = folder.path().join("shims");
        let kept = KeptProgram { folder: shims.clone(), name: "a".into(), note: String::new(), outlives: true };
        let request = SpawnRequest { kept: Some(kept), ..script("exec sleep 60") };
        let spawner = spawner();
        let Spawned { process, .. } = spawner.spawn(&request).await.expect("spawns");
        let pid = process.pid();
        process.leave([b"", b""]).await.expect("is told");
        assert!(runs(pid) && shims.exists(), "it waits");
        drop(folder);
        gone(pid).await;
    });
}

/// The shim of a server that was not to outlive its daemon makes its socket when it is told.
fn left_slowly() {
    on_runtime(async {
        let folder = tempfile::tempdir().expect("tempdir");
        let shims = folder.path().join("shims");
        let kept = KeptProgram { folder: shims.clone(), name: "a".into(), note: String::new(), outlives: false };
        let request = SpawnRequest { kept: Some(kept), ..script("exec sleep 60") };
        let spawner = spawner();
        let Spawned { process, .. } = spawner.spawn(&request).await.expect("spawns");
        let pid = process.pid();
        let shim = llama_warden_procfs::ProcessStat::of(pid).expect("runs").parent;
        let stop = Signal::from_number(nix::sys::signal::Signal::SIGSTOP as i32).expect("named");
        kill(shim, stop);
        let stopped = async {
            while !std::fs::read_to_string(format!("/proc/{shim}/stat")).expect("it is there").contains(") T ") {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, stopped).await.expect("it is stopped");
        let mut leaving = Box::pin(process.leave([b"", b""]));
        let waits = tokio::time::timeout(Duration::from_millis(50), &mut leaving).await;
        assert!(waits.is_err() && !shims.exists(), "nobody could find it yet");
        kill(shim, Signal::CONT);
        tokio::time::timeout(PATIENCE, leaving).await.expect("the shim hangs up").expect("is told");
        let [held] = <[_; 1]>::try_from(held_programs(&shims).await).expect("it is found at the first look");
        assert_eq!(held.process.pid(), pid);
        drop(held);
        gone(pid).await;
    });
}

fn descriptors() {
    on_runtime(async {
        let spawner = spawner();
        let _first = shell(&spawner, "exec sleep 60").await;
        let second = shell(&spawner, "exec sleep 60").await;
        let shim = llama_warden_procfs::ProcessStat::of(second.pid()).expect("runs").parent;
        let sockets = llama_warden_procfs::socket_inodes(shim).expect("ours");
        assert_eq!(sockets.len(), 1, "only its own: a copy of another would hide that the daemon is gone");
    });
}

fn kill(pid: u32, signal: Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).expect("fits"));
    let signal = nix::sys::signal::Signal::try_from(signal.number()).expect("named");
    nix::sys::signal::kill(pid, signal).expect("ours");
}
