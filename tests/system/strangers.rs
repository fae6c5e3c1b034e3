//! State that names somebody else: it is of another boot, its process ids belong to others now, or others hold its locks.
//!
//! Comments cite faults of [the list](../../docs/faults.md) by their codes.

use std::fs::{self, File};
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use llama_warden_events::FailureReason;
use llama_warden_stand_in::Script;
use llama_warden_tests::{DaemonOptions, ProcessInfo, Sandbox, TestDaemon, TestFleet, WAIT_LIMIT, eventually, sandbox};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// The id of a run that no daemon of these tests has.
const OTHER_RUN: &str = "00000000deadbeef";

fn fleet(sandbox: &Sandbox, policy: &str) -> TestFleet {
    let mut fleet = sandbox.fleet();
    fleet.daemon(&format!("on-daemon-death = \"{policy}\""));
    fleet.section("[restart]\ninitial-delay = \"10ms\"\nmax-delay = \"50ms\"");
    fleet.server("a", Script::default()).server("b", Script::default());
    fleet
}

async fn pid(daemon: &TestDaemon, id: &str) -> u32 {
    daemon.report(id).await.pid.expect("it runs")
}

fn sleeper(sandbox: &Sandbox) -> Command {
    let mut command = sandbox.program("sleep");
    command.env_clear().current_dir("/").arg("300").kill_on_drop(true);
    command
}

fn id(child: &Child) -> u32 {
    child.id().expect("it is not waited for")
}

/// Kills the shims of servers, as a power cut does: their sockets stay.
async fn cut_power(servers: &[u32]) {
    for server in servers {
        let shim = ProcessInfo::of(*server).expect("it runs").parent;
        kill(Pid::from_raw(i32::try_from(shim).expect("a process id")), Signal::SIGKILL).expect("ours");
    }
    let are_gone = async || !servers.iter().any(|server| ProcessInfo::runs(*server));
    eventually("the servers are gone", WAIT_LIMIT, are_gone).await;
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("it is read").path()).collect()
}

/// Fault S4: nothing of that boot runs, its ids mean somebody else, and the clock was set back.
#[test]
fn state_of_another_boot_touches_nobody_and_a_stop_by_hand_still_counts() {
    sandbox(async |sandbox| {
        let mut fleet = fleet(sandbox, "adopt");
        fleet.server("stopped", Script::default());
        let first = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        first.ready("stopped").await;
        first.command("stopped", "stop?wait=30s").await.expect(200);
        let servers = [pid(&first, "a").await, pid(&first, "b").await];
        let state = fleet.state_dir();
        // Behind the line that names the directory.
        let runs = || {
            let text = fs::read_to_string(state.join("boots")).expect("it is there");
            text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
        };
        let run = runs().pop().expect("that of the daemon");
        first.killed().await;
        cut_power(&servers).await;
        assert_eq!(entries(&state.join("shims")).len(), 2, "their sockets are left");

        let tagged = |tag: String| sleeper(sandbox).env("LLAMA_WARDEN_LAUNCH", tag).spawn().expect("it starts");
        // Of a daemon that the state does not name, of one whose id begins like that one, and of that one.
        let (other, longer) = (tagged(format!("{run}/a/1")), tagged(format!("{OTHER_RUN}0/a/1")));
        let mut left = tagged(format!("{OTHER_RUN}/a/1"));
        fs::write(state.join("boots"), format!("{OTHER_RUN}\n")).expect("ours");
        fs::write(state.join("daemon.lock"), format!("{}\n", id(&other))).expect("ours");
        let future = SystemTime::now() + Duration::from_secs(1 << 30);
        for path in entries(&state).iter().filter(|path| path.is_file()) {
            let file = File::options().write(true).open(path).expect("ours");
            file.set_modified(future).expect("ours");
        }

        let next = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        assert!(ProcessInfo::runs(id(&other)) && ProcessInfo::runs(id(&longer)), "{}", next.log());
        left.wait().await.expect("it was killed");
        assert!(next.log().contains("an earlier run had left processes behind"), "{}", next.log());
        for server in ["a", "b"] {
            assert_eq!(next.count(server, "ServerAdopted").await, 0);
        }
        assert!(!next.report("stopped").await.is_running, "a person has stopped it");
        assert_eq!(entries(&state.join("shims")).len(), 2, "those of the servers that run now");
        let runs = runs();
        assert!(runs.len() == 1 && runs[0] != OTHER_RUN && runs[0] != run, "{runs:?}");
    });
}

/// What a shim tells the next daemon first: its message without the process, and the note.
fn note_of(socket: &Path) -> Vec<u8> {
    let mut shim = UnixStream::connect(socket).expect("it waits");
    let mut lengths = [0; 8];
    shim.read_exact(&mut lengths).expect("it speaks");
    let [message, note] = [0, 4].map(|at| {
        let bytes = lengths[at..at + 4].try_into().expect("four bytes");
        usize::try_from(u32::from_le_bytes(bytes)).expect("it fits")
    });
    let mut text = vec![0; message + note];
    shim.read_exact(&mut text).expect("it speaks");
    text.split_off(message)
}

fn frame(message: &str, body: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u32::try_from(bytes).expect("short").to_le_bytes();
    [&length(message.len()), &length(body.len()), message.as_bytes(), body].concat()
}

/// Speaks like the shim of a process, once, and hangs up.
fn play_shim(listener: &UnixListener, pid: u32, start_ticks: u64, note: &[u8]) {
    let (mut daemon, _) = listener.accept().expect("the daemon asks");
    let held = frame(&format!("{{\"held\":{{\"pid\":{pid},\"start_ticks\":{start_ticks}}}}}"), note);
    let ends = [std::io::pipe().expect("a pipe"), std::io::pipe().expect("a pipe")];
    let readers: Vec<_> = ends.iter().map(|(reader, _)| reader.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&readers)];
    let sent = sendmsg::<()>(daemon.as_raw_fd(), &[IoSlice::new(&held)], &rights, MsgFlags::empty(), None);
    assert_eq!(sent, Ok(held.len()));
    for stream in ["stdout", "stderr"] {
        let message = format!("{{\"output\":{{\"stream\":\"{stream}\",\"dropped\":0}}}}");
        daemon.write_all(&frame(&message, b"")).expect("sent");
    }
    // Until the daemon has heard everything, and hangs up or orders something.
    let _ = daemon.read(&mut [0; 64]);
}

/// The start of a process in clock ticks: field 22 of its line, counted from the name, which may contain anything.
fn start_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let after_name = stat.rsplit_once(')').expect("it has a name").1;
    after_name.split_whitespace().nth(19).and_then(|ticks| ticks.parse().ok()).expect("a number")
}

/// Faults S2 and S4: the id of a server is that of a bystander now, whom the state, its shim's socket and a false shim name.
#[test]
fn a_process_id_that_is_somebody_elses_now_is_no_server() {
    for is_reused_later in [false, true] {
        sandbox(async |sandbox| {
            let fleet = fleet(sandbox, "adopt");
            let first = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
            let servers = [pid(&first, "a").await, pid(&first, "b").await];
            first.killed().await;
            let (state, shims) = (fleet.state_dir(), fleet.state_dir().join("shims"));
            let shim = ProcessInfo::of(servers[0]).expect("it runs").parent;
            let note = note_of(&shims.join(format!("a.{shim}")));
            assert!(ProcessInfo::runs(servers[0]), "who only asks ends nothing");
            cut_power(&servers).await;

            // Not a child of this process, which speaks for its shim.
            let mut shell = sandbox.program("/bin/sh");
            let line = "sleep 300 & echo $!; wait";
            shell.env_clear().current_dir("/").args(["-c", line]).stdout(Stdio::piped()).kill_on_drop(true);
            let mut shell = shell.spawn().expect("it starts");
            let mut said = tokio::io::BufReader::new(shell.stdout.take().expect("piped"));
            let mut number = String::new();
            tokio::io::AsyncBufReadExt::read_line(&mut said, &mut number).await.expect("it says");
            let bystander: u32 = number.trim().parse().expect("a process id");

            fs::write(state.join("daemon.lock"), &number).expect("ours");
            let socket = shims.join(format!("a.{bystander}"));
            let listener = UnixListener::bind(&socket).expect("ours");
            // With another start, it is the id of a server that has ended.
            let ticks = start_ticks(bystander) - u64::from(is_reused_later);
            let told = note.clone();
            let player = std::thread::spawn(move || play_shim(&listener, bystander, ticks, &told));
            let next = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
            player.join().expect("it has spoken");
            assert!(ProcessInfo::runs(bystander), "{}", next.log());
            let pids = [pid(&next, "a").await, pid(&next, "b").await];
            assert!(!pids.contains(&bystander), "{pids:?}");
            if !is_reused_later {
                assert!(next.log().contains("not the parent of the process that it names"), "{}", next.log());
                assert_eq!(next.count("a", "ServerAdopted").await, 0);
            }
            let holder = fs::read_to_string(state.join("daemon.lock")).expect("it is there");
            assert_eq!(holder.trim(), next.pid().to_string());
            next.signal(Signal::SIGTERM);
            assert_eq!(next.exit_code().await, 0, "{}", next.log());
            assert!(ProcessInfo::runs(bystander), "{}", next.log());
            kill(Pid::from_raw(i32::try_from(bystander).expect("a process id")), Signal::SIGKILL).expect("ours");
            shell.wait().await.expect("it ends with its child");
        });
    }
}

/// A living process that alone has locked a file, which it can write: for itself, or, as a shim does, in a way that lets others in.
async fn stranger_with(sandbox: &Sandbox, path: &Path, is_shared: bool) -> Child {
    let file = File::options().read(true).write(true).open(path).expect("ours");
    eventually("nobody else has it", WAIT_LIMIT, async || file.try_lock().is_ok()).await;
    if is_shared {
        file.lock_shared().expect("it is this process' own");
    }
    sleeper(sandbox).stdin(Stdio::from(file)).spawn().expect("it starts")
}

/// Faults S4 and S6: it is told, and only what needs the lock waits for it.
#[test]
fn a_stranger_that_holds_the_lock_of_a_server_is_named_and_lives() {
    for is_shared in [false, true] {
        sandbox(async |sandbox| {
            let fleet = fleet(sandbox, "kill");
            let first = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
            first.killed().await;
            let lock = fleet.state_dir().join("locks/a");
            let mut stranger = stranger_with(sandbox, &lock, is_shared).await;
            let number = id(&stranger);

            let next = sandbox.up(&fleet).await;
            next.ready("b").await;
            let (reason, detail, _) = next.failure("a").await;
            assert_eq!(reason, FailureReason::Unkillable);
            assert!(
                detail.contains(&format!("process {number}")) && detail.contains("locks/a is locked by"),
                "{detail}"
            );
            assert!(ProcessInfo::runs(number), "{}", next.log());
            // Nor by the launches of this daemon, or by its end.
            next.killed().await;
            let next = sandbox.up(&fleet).await;
            assert_eq!(next.failure("a").await.0, FailureReason::Unkillable);
            assert!(ProcessInfo::runs(number), "{}", next.log());

            stranger.kill().await.expect("ours");
            // A launch that had begun before may still have met it.
            let starts = async || next.command("a", "start?wait=50s").await.status == 200;
            eventually("the server starts", WAIT_LIMIT, starts).await;
            assert!(next.report("a").await.is_ready && next.report("b").await.is_ready);
        });
    }
}

/// Faults S5 and S6: the killed daemon, whose id the lock still has, is not blamed.
#[test]
fn a_stranger_that_holds_the_lock_of_the_daemon_lives_and_no_daemon_starts_beside_it() {
    sandbox(async |sandbox| {
        let fleet = fleet(sandbox, "adopt");
        let first = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        let servers = [pid(&first, "a").await, pid(&first, "b").await];
        first.killed().await;
        let mut stranger = stranger_with(sandbox, &fleet.state_dir().join("daemon.lock"), false).await;

        let refused = sandbox.launch(&fleet, &DaemonOptions::default());
        assert_eq!(refused.exit_code().await, 4, "{}", refused.log());
        let log = refused.log();
        assert!(log.contains("is held by another process") && !log.contains(&first.pid().to_string()), "{log}");
        assert!(ProcessInfo::runs(id(&stranger)) && servers.into_iter().all(ProcessInfo::runs), "{log}");

        stranger.kill().await.expect("ours");
        let next = sandbox.up_until_ready(&fleet, &["a", "b"]).await;
        assert_eq!([pid(&next, "a").await, pid(&next, "b").await], servers, "they go on");
    });
}
