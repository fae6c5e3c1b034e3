//! What has to hold after every test.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use llama_warden_api_types::StatusReport;
use llama_warden_events::{Envelope, Event, Uptime};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep, timeout};

use crate::http::Request;
use crate::procfs::{Process, descendants, processes_with};
use crate::{Daemon, PATIENCE};

/// How long the kernel may take to bury what was killed.
const BURIAL: Duration = Duration::from_secs(5);
/// How many events are shown when a test has failed.
const SHOWN: usize = 400;

/// What does not hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Whether all is well.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, problem: String) {
        self.0.push(problem);
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| writeln!(f, "after the test: {problem}"))
    }
}

/// Ends every daemon and whatever else is left, and says what should not have been there.
pub(crate) async fn clear(stage: &Path, daemons: &[Daemon]) -> Problems {
    let mut problems = Problems::default();
    for daemon in daemons {
        if daemon.has_ended() {
            if !daemon.is_exit_seen() {
                problems.add(format!("the daemon ended by itself: exit code {}", daemon.exit_code().await));
            }
            continue;
        }
        if daemon.followed().is_some() {
            check_replay(daemon, &mut problems).await;
            check_zombies(daemon, &mut problems).await;
        }
        end(daemon, &mut problems).await;
    }
    check_leftovers(stage, &mut problems).await;
    for daemon in daemons {
        check_lock(daemon, &mut problems);
        check_events_to_the_end(daemon, &mut problems).await;
    }
    problems
}

/// The events come to what the status said.
async fn check_replay(daemon: &Daemon, problems: &mut Problems) {
    let answer = match Request::get("/api/v1/status").send(daemon.control()).await {
        Ok(answer) => answer,
        Err(error) => return problems.add(format!("the daemon does not tell its status: {error:?}")),
    };
    let said: StatusReport = match serde_json::from_slice(&answer.body) {
        Ok(said) => said,
        Err(error) => return problems.add(format!("not a status report ({error}): {}", answer.text())),
    };
    let Ok(replayed) = timeout(PATIENCE, daemon.feed().replay(said.seq)).await else {
        return problems.add(format!("event {} does not come", said.seq));
    };
    let said = timeless(said);
    let replayed = timeless(StatusReport::of(&replayed, Uptime::default()));
    if said != replayed {
        problems.add(format!("the events come to\n  {replayed:?}\nthe status said\n  {said:?}"));
    }
}

/// A report without what depends on the time of the question.
fn timeless(mut report: StatusReport) -> StatusReport {
    for server in &mut report.servers {
        server.uptime_seconds = 0;
        server.waiting_for = None;
        server.health = None;
    }
    report
}

/// A server that ends is a zombie until it is swept and reaped, so one look would not do.
async fn check_zombies(daemon: &Daemon, problems: &mut Problems) {
    let zombies = || -> Vec<Process> {
        descendants(daemon.pid()).into_iter().filter(|child| child.is_zombie && child.parent == daemon.pid()).collect()
    };
    let left = settle(zombies).await;
    if !left.is_empty() {
        problems.add(format!("the daemon does not reap its children: {left:?}"));
    }
}

async fn end(daemon: &Daemon, problems: &mut Problems) {
    daemon.signal(Signal::SIGTERM);
    match timeout(PATIENCE, daemon.exit_code()).await {
        Ok(0) => {
            let socket = daemon.state_dir().join("control.sock");
            if socket.exists() {
                problems.add(format!("the daemon left {}", socket.display()));
            }
        }
        Ok(code) => problems.add(format!("after TERM the daemon ended with exit code {code}")),
        Err(_) => {
            problems.add("the daemon does not end after TERM".to_owned());
            for pid in [daemon.pid(), daemon.outer_pid()] {
                kill_one(pid);
            }
        }
    }
}

/// Everything on a stage has its path in the environment (HOME) or in the command line (the model).
async fn check_leftovers(stage: &Path, problems: &mut Problems) {
    let text = stage.to_string_lossy();
    let left = settle(|| processes_with(&text)).await;
    for process in left {
        kill_one(process.pid);
        problems.add(format!("process {} is left: {}", process.pid, process.command));
    }
}

fn check_lock(daemon: &Daemon, problems: &mut Problems) {
    let path = daemon.state_dir().join("daemon.lock");
    if let Ok(lock) = File::open(&path)
        && let Err(error) = lock.try_lock()
    {
        problems.add(format!("{} is not free: {error}", path.display()));
    }
}

/// Who follows a daemon that ends in peace gets every event, from the first to the last, and so does the event log.
async fn check_events_to_the_end(daemon: &Daemon, problems: &mut Problems) {
    let Some(feed) = daemon.followed().filter(|_| daemon.ended_well()) else { return };
    let followed = match feed.to_end().await {
        Ok(followed) => followed,
        Err(problem) => return problems.add(problem),
    };
    if !ends_with_the_end(&followed) {
        problems.add(format!("the follower got {} events and not the end of the daemon", followed.len()));
    }
    let path = daemon.state_dir().join("events.jsonl");
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => return problems.add(format!("{}: {error}", path.display())),
    };
    let read: Result<Vec<Envelope>, _> = text.lines().map(serde_json::from_str).collect();
    let logged = match read {
        Ok(logged) => logged,
        Err(error) => return problems.add(format!("{} has a line that is no envelope: {error}", path.display())),
    };
    if followed.first().map(|event| &event.boot) != logged.first().map(|event| &event.boot) {
        // Another daemon has used the directory since.
        return;
    }
    if let Some((event, _)) = followed.iter().zip(&logged).find(|(followed, logged)| followed != logged) {
        problems.add(format!("event {} is another one in {}", event.seq, path.display()));
    }
    if !ends_with_the_end(&logged) {
        problems.add(format!(
            "{} has {} events and does not end with the end of the daemon",
            path.display(),
            logged.len()
        ));
    }
}

/// The commands around servers' lives are all that may end after the last server has.
fn ends_with_the_end(events: &[Envelope]) -> bool {
    let last = events.iter().map(|event| &event.event).rfind(|event| !matches!(event, Event::HookCompleted { .. }));
    matches!(last, Some(Event::DaemonStopped { .. }))
}

/// Gives what is dying the time to be gone.
async fn settle(look: impl Fn() -> Vec<Process>) -> Vec<Process> {
    let deadline = Instant::now() + BURIAL;
    loop {
        let found = look();
        if found.is_empty() || Instant::now() >= deadline {
            return found;
        }
        // await: the end of a process that is not our child.
        sleep(Duration::from_millis(20)).await;
    }
}

fn kill_one(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        // It may have ended meanwhile.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Prints the events and the log of each daemon.
pub(crate) fn tell(daemons: &[Daemon]) {
    for daemon in daemons {
        let events = daemon.followed().map(|feed| feed.events()).unwrap_or_default();
        eprintln!("--- events of {}, {} in all", daemon.config().display(), events.len());
        for envelope in events.iter().skip(events.len().saturating_sub(SHOWN)) {
            let server = envelope.server.as_ref().map_or("-", |server| server.as_str());
            let event = serde_json::to_string(&envelope.event).unwrap_or_default();
            let shown: String = event.chars().take(600).collect();
            eprintln!("{:>5} {:>10} {server} {shown}", envelope.seq.get(), envelope.elapsed.to_string());
        }
        let log = daemon.log();
        let tail = log.lines().count().saturating_sub(SHOWN);
        eprintln!("--- its log");
        log.lines().skip(tail).for_each(|line| eprintln!("{line}"));
    }
}
