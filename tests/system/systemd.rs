//! The daemon as a service of systemd, with a socket of our own for systemd's end.

use std::fs;
use std::net::TcpListener;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::time::Duration;

use llama_warden_stand_in::{Script, TermScript};
use llama_warden_tests::{DaemonOptions, Sandbox, WAIT_LIMIT, eventually, own_namespaces, sandbox};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::Signal;
use nix::sys::stat::fstat;
use tokio::net::UnixDatagram;
use tokio::time::timeout;

/// systemd's end of the notification socket.
struct Manager(UnixDatagram);

impl Manager {
    fn new(sandbox: &Sandbox) -> Self {
        Self(UnixDatagram::bind(sandbox.file("notify")).expect("bound"))
    }

    async fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = timeout(WAIT_LIMIT, self.0.recv(&mut buffer)).await.expect("a message").expect("received");
        String::from_utf8(buffer[..length].to_vec()).expect("text")
    }

    /// Reads up to a message that begins so, and returns all of it.
    async fn until(&self, beginning: &str) -> String {
        loop {
            let message = self.next().await;
            if message.starts_with(beginning) {
                return message;
            }
        }
    }
}

fn options(sandbox: &Sandbox, more: &[(&str, &str)]) -> DaemonOptions {
    let socket = sandbox.file("notify").display().to_string();
    let variables = [("NOTIFY_SOCKET", socket.as_str())].into_iter().chain(more.iter().copied());
    let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    DaemonOptions { environment, ..DaemonOptions::default() }
}

#[test]
fn systemd_hears_of_the_start_the_servers_a_reload_and_the_stop() {
    sandbox(async |sandbox| {
        let manager = Manager::new(sandbox);
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        fleet.daemon("shutdown-deadline = \"50s\"");
        let daemon = sandbox.up_with(&fleet, &options(sandbox, &[])).await;
        manager.until("FDSTORE=1\nFDNAME=http").await;
        manager.until("READY=1").await;
        manager.until("STATUS=1 of 1 servers ready").await;
        daemon.signal(Signal::SIGHUP);
        manager.until("RELOADING=1\nMONOTONIC_USEC=").await;
        manager.until("READY=1").await;
        daemon.signal(Signal::SIGTERM);
        let stopping = manager.until("STOPPING=1").await;
        assert_eq!(stopping, "STOPPING=1\nEXTEND_TIMEOUT_USEC=60000000");
        assert_eq!(daemon.exit_code().await, 0);
    });
}

#[test]
fn a_long_grace_is_announced_before_it_begins() {
    sandbox(async |sandbox| {
        let manager = Manager::new(sandbox);
        let mut fleet = sandbox.fleet();
        fleet.server_with("a", Script { term: TermScript::Ignore, ..Script::default() }, "stop = { grace = \"1h\" }");
        fleet.daemon("shutdown-deadline = \"1h\"");
        let daemon = sandbox.up_with(&fleet, &options(sandbox, &[])).await;
        daemon.ready("a").await;
        daemon.signal(Signal::SIGTERM);
        assert!(manager.until("STOPPING=1").await.ends_with("EXTEND_TIMEOUT_USEC=3610000000"));
        manager.until("STATUS=stopping, 1 still running").await;
        daemon.signal(Signal::SIGTERM);
        assert_eq!(daemon.exit_code().await, 143);
    });
}

#[test]
fn the_watchdog_hears_from_a_daemon_that_runs_and_not_from_one_that_is_stuck() {
    sandbox(async |sandbox| {
        let manager = Manager::new(sandbox);
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up_with(&fleet, &options(sandbox, &[("WATCHDOG_USEC", "400000")])).await;
        daemon.ready("a").await;
        for _ in 0..3 {
            manager.until("WATCHDOG=1").await;
        }
        daemon.signal(Signal::SIGSTOP);
        // What was sent before the stop is read first; then two periods pass in silence.
        while timeout(Duration::from_millis(800), manager.next()).await.is_ok() {}
        daemon.signal(Signal::SIGCONT);
        manager.until("WATCHDOG=1").await;
    });
}

/// A socket unit, and a socket that was kept over a restart: both arrive as descriptor 3.
#[test]
fn a_listening_socket_of_systemd_is_taken_and_serves() {
    sandbox(async |sandbox| {
        let _manager = Manager::new(sandbox);
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let listener = TcpListener::bind(("127.0.0.1", fleet.listen())).expect("the port is free");
        fcntl(listener.as_fd(), FcntlArg::F_SETFD(FdFlag::empty())).expect("it is inherited");
        let descriptor = listener.as_fd().as_raw_fd();
        let mut options = options(sandbox, &[("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "http")]);
        // systemd passes descriptor 3 and the pid of the service. Not every sh can name a descriptor of two digits.
        let script = format!("exec 3<&{descriptor} {descriptor}<&-; export LISTEN_PID=$$; exec \"$@\"");
        options.under = ["bash", "-c", &script, "bash"].map(str::to_owned).to_vec();
        let daemon = sandbox.up_with(&fleet, &options).await;
        let socket = format!("socket:[{}]", fstat(&listener).expect("it is open").st_ino);
        drop(listener);
        daemon.ready("a").await;
        let server = daemon.report("a").await.pid.expect("it runs");
        let holds = |pid: u32| {
            let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
            descriptors.flatten().any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link == *socket))
        };
        assert!(holds(daemon.pid()), "the daemon listens on systemd's socket");
        assert!(!holds(server), "a server does not inherit it");
    });
}

/// Runs the daemon with a `/run` of its own, in which journald listens at `socket`, and with a standard error that is the journal.
fn in_journal(socket: Option<&Path>) -> DaemonOptions {
    let link =
        socket.map_or_else(String::new, |socket| format!("ln -s {} /run/systemd/journal/socket && ", socket.display()));
    let stream = "export JOURNAL_STREAM=$(stat -Lc %d:%i /proc/self/fd/2)";
    let script = format!("mount -t tmpfs none /run && mkdir -p /run/systemd/journal && {link}{stream} && exec \"$@\"");
    DaemonOptions { under: own_namespaces(&["--mount", "sh", "-c", &script, "sh"]), ..DaemonOptions::default() }
}

#[test]
fn a_log_that_goes_to_the_journal_is_entries_with_fields() {
    sandbox(async |sandbox| {
        let journal = UnixDatagram::bind(sandbox.file("journal")).expect("bound");
        let mut fleet = sandbox.fleet();
        fleet.server("a", Script::default());
        let daemon = sandbox.up_with(&fleet, &in_journal(Some(&sandbox.file("journal")))).await;
        let mut buffer = vec![0; 1 << 16];
        let entry = loop {
            let length = timeout(WAIT_LIMIT, journal.recv(&mut buffer)).await.expect("an entry").expect("received");
            let entry = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if entry.contains("LLAMA_WARDEN_EVENT=ReadyReached\n") {
                break entry;
            }
        };
        let has = |line: &str| entry.lines().any(|given| given == line);
        assert!(has("PRIORITY=6") && has("SYSLOG_IDENTIFIER=llama-warden") && has("LLAMA_WARDEN_SERVER=a"), "{entry}");
        assert!(entry.contains("MESSAGE=server is ready server=\"a\" via="), "{entry}");
        assert_eq!(daemon.log(), "", "nothing is told twice");
    });
}

#[test]
fn without_the_journals_socket_lines_begin_with_their_priority() {
    sandbox(async |sandbox| {
        let mut fleet = sandbox.fleet();
        fleet.server_with("a", Script::default(), "binary = \"/nonexistent\"");
        let daemon = sandbox.up_with(&fleet, &in_journal(None)).await;
        daemon.failure("a").await;
        eventually("it is logged", WAIT_LIMIT, async || daemon.log().contains("server failed")).await;
        let log = daemon.log();
        let priority = |text: &str| log.lines().find(|line| line.contains(text)).map(|line| line[..3].to_owned());
        assert_eq!(
            (priority("is up").as_deref(), priority("server failed").as_deref()),
            (Some("<6>"), Some("<3>")),
            "{log}"
        );
    });
}
