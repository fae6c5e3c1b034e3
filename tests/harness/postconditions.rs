//! Checks what must hold after every test; the crate's documentation lists it.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use llama_warden_api_types::StatusReport;
use llama_warden_events::{Envelope, Event, Uptime};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep, timeout};

use crate::http::TestRequest;
use crate::procfs::{ProcessInfo, descendants, processes_with};
use crate::{TestDaemon, WAIT_LIMIT};

/// Limit for killed processes to disappear from `/proc`.
const REAP_LIMIT: Duration = Duration::from_secs(5);
/// The number of last events, and of last log lines, that a failed test prints.
const EVENTS_PRINTED: usize = 400;

/// Stops every daemon, kills every process that is left, and returns the conditions that did not hold.
pub(crate) async fn check_and_clean_up(sandbox: &Path, daemons: &[TestDaemon]) -> Vec<String> {
    let mut violations = Vec::new();
    for daemon in daemons {
        if daemon.exit_status().is_some() {
            if !daemon.is_exit_seen() {
                violations.push(format!("the daemon ended by itself: exit code {}", daemon.exit_code().await));
            }
            continue;
        }
        // A daemon that never answered has no events to replay.
        if daemon.followed().is_some() {
            violations.extend(check_replay(daemon).await.err());
            check_zombies(daemon, &mut violations).await;
        }
        end(daemon, &mut violations).await;
    }
    check_leftovers(sandbox, &mut violations).await;
    for daemon in daemons {
        check_lock(daemon, &mut violations);
        check_events_to_the_end(daemon, &mut violations).await;
    }
    violations
}

/// Checks that the events replay to the state that the daemon reports.
async fn check_replay(daemon: &TestDaemon) -> Result<(), String> {
    let response = TestRequest::get("/api/v1/status").send(daemon.control()).await;
    let response = response.map_err(|error| format!("the daemon does not report its status: {error:?}"))?;
    let reported: StatusReport = serde_json::from_slice(&response.body)
        .map_err(|error| format!("not a status report ({error}): {}", response.text()))?;
    let replayed = timeout(WAIT_LIMIT, daemon.event_stream().replay(reported.seq)).await;
    let replayed = replayed.map_err(|_| format!("event {} does not come", reported.seq))?;
    let (reported, replayed) = (without_times(reported), without_times(StatusReport::of(&replayed, Uptime::default())));
    if reported == replayed {
        return Ok(());
    }
    Err(format!("the events come to\n  {replayed:?}\nthe status reported\n  {reported:?}"))
}

/// Clears the fields that depend on the time of the request.
fn without_times(mut report: StatusReport) -> StatusReport {
    for server in &mut report.servers {
        server.uptime_seconds = 0;
        server.phase_seconds = 0.0;
        server.waiting_for = None;
        server.note = None;
        server.health = None;
        // Not in the snapshot.
        server.requests = None;
    }
    report
}

/// Checks for zombies, with a time limit: a server that ends is a zombie until its descendants are swept and it is reaped.
async fn check_zombies(daemon: &TestDaemon, violations: &mut Vec<String>) {
    let zombies = || -> Vec<ProcessInfo> {
        descendants(daemon.pid()).into_iter().filter(|child| child.is_zombie && child.parent == daemon.pid()).collect()
    };
    let left = poll_until_empty(zombies).await;
    if !left.is_empty() {
        violations.push(format!("the daemon does not reap its children: {left:?}"));
    }
}

async fn end(daemon: &TestDaemon, violations: &mut Vec<String>) {
    daemon.signal(Signal::SIGTERM);
    match timeout(WAIT_LIMIT, daemon.exit_code()).await {
        Ok(0) => {
            let socket = daemon.state_dir().join("control.sock");
            if socket.exists() {
                violations.push(format!("the daemon left {}", socket.display()));
            }
        }
        Ok(code) => violations.push(format!("after TERM the daemon ended with exit code {code}")),
        Err(_) => {
            violations.push("the daemon does not end after TERM".to_owned());
            for pid in [daemon.pid(), daemon.outer_pid()] {
                kill_process(pid);
            }
        }
    }
}

/// Kills and reports every process that has the sandbox's path in its environment (HOME) or command line (the model).
async fn check_leftovers(sandbox: &Path, violations: &mut Vec<String>) {
    let text = sandbox.to_string_lossy();
    let left = poll_until_empty(|| processes_with(&text)).await;
    for process in left {
        kill_process(process.pid);
        violations.push(format!("process {} is left: {}", process.pid, process.command));
    }
}

fn check_lock(daemon: &TestDaemon, violations: &mut Vec<String>) {
    let path = daemon.state_dir().join("daemon.lock");
    if let Ok(lock) = File::open(&path)
        && let Err(error) = lock.try_lock()
    {
        violations.push(format!("{} is not free: {error}", path.display()));
    }
}

/// Checks that the follower and the event log of a daemon that exited with 0 have the same events, up to the last one.
async fn check_events_to_the_end(daemon: &TestDaemon, violations: &mut Vec<String>) {
    let Some(event_stream) = daemon.followed().filter(|_| daemon.exit_status().is_some_and(|status| status.success()))
    else {
        return;
    };
    let followed = match event_stream.to_end().await {
        Ok(followed) => followed,
        Err(problem) => return violations.push(problem),
    };
    if !ends_with_daemon_stopped(&followed) {
        violations.push(format!("the follower got {} events and not the end of the daemon", followed.len()));
    }
    let path = daemon.state_dir().join("events.jsonl");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return violations.push(format!("{}: {error}", path.display())),
    };
    let read: Result<Vec<Envelope>, _> = text.lines().map(serde_json::from_str).collect();
    let mut logged = match read {
        Ok(logged) => logged,
        Err(error) => return violations.push(format!("{} has a line that is no envelope: {error}", path.display())),
    };
    // The log holds those of every daemon that used the directory, and none of this one if the test has removed it.
    let is_of_another = !logged.is_empty();
    logged.retain(|event| followed.first().is_some_and(|first| first.boot == event.boot));
    if logged.is_empty() && is_of_another {
        return;
    }
    // The follower may have more events than the log only if the end of the log is missing, which is checked below.
    if let Some((event, _)) = followed.iter().zip(&logged).find(|(followed, logged)| followed != logged) {
        violations.push(format!("event {} is another one in {}", event.seq, path.display()));
    }
    if !ends_with_daemon_stopped(&logged) {
        violations.push(format!(
            "{} has {} events and does not end with the end of the daemon",
            path.display(),
            logged.len()
        ));
    }
}

/// Whether the last event is `DaemonStopped`. Only hooks may still complete after it.
fn ends_with_daemon_stopped(events: &[Envelope]) -> bool {
    let last = events.iter().map(|event| &event.event).rfind(|event| !matches!(event, Event::HookCompleted { .. }));
    matches!(last, Some(Event::DaemonStopped { .. }))
}

/// Calls `find` until it finds no process, or [`REAP_LIMIT`] is over; returns what it found last.
async fn poll_until_empty(find: impl Fn() -> Vec<ProcessInfo>) -> Vec<ProcessInfo> {
    let deadline = Instant::now() + REAP_LIMIT;
    loop {
        let found = find();
        if found.is_empty() || Instant::now() >= deadline {
            return found;
        }
        // await: no event announces the end of a process that is not a child of this one.
        sleep(Duration::from_millis(20)).await;
    }
}

fn kill_process(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        // An error means that it has ended meanwhile.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Prints the last events and the end of the log of each daemon.
pub(crate) fn print_diagnostics(daemons: &[TestDaemon]) {
    for daemon in daemons {
        let events = daemon.followed().map(|event_stream| event_stream.events()).unwrap_or_default();
        eprintln!("--- events of {}, {} in all", daemon.config().display(), events.len());
        for envelope in events.iter().skip(events.len().saturating_sub(EVENTS_PRINTED)) {
            let server = envelope.server.as_ref().map_or("-", |server| server.as_str());
            let event = serde_json::to_string(&envelope.event).unwrap_or_default();
            let shown: String = event.chars().take(600).collect();
            eprintln!("{:>5} {:>10} {server} {shown}", envelope.seq.get(), envelope.elapsed.to_string());
        }
        let log = daemon.log();
        let tail = log.lines().count().saturating_sub(EVENTS_PRINTED);
        eprintln!("--- its log");
        log.lines().skip(tail).for_each(|line| eprintln!("{line}"));
    }
}
