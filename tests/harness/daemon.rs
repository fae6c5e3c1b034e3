//! A daemon that runs, and what a test asks of it.

use std::cell::{Cell, OnceCell};
use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;

use llama_warden_api_types::{ServerDetail, ServerReport, StatusReport};
use llama_warden_events::{Envelope, Event, FailureReason, Seq};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::feed::Feed;
use crate::fleet::Fleet;
use crate::http::{Answer, Endpoint, Request};
use crate::options::Options;
use crate::{PATIENCE, daemon_program, eventually, resident_bytes};

/// A daemon. Cheap to clone: all clones are the same one.
#[derive(Debug, Clone)]
pub struct Daemon(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Of what was spawned: the daemon, or the program that it is [under](Options::under).
    pid: u32,
    daemon_pid: Cell<u32>,
    state_dir: PathBuf,
    config: PathBuf,
    log: PathBuf,
    http: Endpoint,
    control: Endpoint,
    exit: watch::Receiver<Option<ExitStatus>>,
    /// Whether the test has looked at the exit.
    is_exit_seen: Cell<bool>,
    feed: OnceCell<Feed>,
}

impl Daemon {
    /// Starts `up` in the directory of the fleet and returns at once.
    pub(crate) fn spawn(fleet: &Fleet, options: &Options, home: &Path, number: usize) -> Self {
        let config = fleet.write();
        let log = config.with_extension(format!("{number}.log"));
        let words: Vec<OsString> = options.under.iter().map(OsString::from).collect();
        let mut line = words.into_iter().chain([daemon_program().into_os_string()]);
        let mut command = std::process::Command::new(line.next().expect("a program"));
        command
            .args(line)
            .arg("--config")
            .arg(&config)
            .arg("up")
            .args(&options.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            .envs(options.environment.iter().cloned())
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(options.output.open(&log))
            .stderr(options.output.open(&log))
            // A group of its own is what a terminal would send Ctrl-C to.
            .process_group(0);
        let mut child = Command::from(command).kill_on_drop(true).spawn().expect("the daemon starts");
        let pid = child.id().expect("it has just been started");
        let (ended, exit) = watch::channel(None);
        tokio::spawn(async move {
            let status = child.wait().await.expect("a child can be waited for");
            ended.send_replace(Some(status));
        });
        let state_dir = fleet.state_dir();
        Self(Rc::new(Inner {
            pid,
            daemon_pid: Cell::new(pid),
            control: Endpoint::Unix(state_dir.join("control.sock")),
            state_dir,
            config,
            log,
            http: Endpoint::Tcp(fleet.listen()),
            exit,
            is_exit_seen: Cell::new(false),
            feed: OnceCell::new(),
        }))
    }

    /// Waits until it answers, and begins to follow its events.
    ///
    /// # Panics
    /// When it ends instead, or does not answer within [`PATIENCE`].
    pub async fn answering(&self) {
        let control = &self.0.control;
        eventually("the daemon answers", PATIENCE, async || {
            assert!(
                !self.has_ended(),
                "the daemon ended instead of answering: {:?}\n{}",
                self.0.exit.borrow(),
                self.log()
            );
            control.answers("/livez").await
        })
        .await;
        let feed = Feed::open(control).await.unwrap_or_else(|error| panic!("no events: {error:?}\n{}", self.log()));
        self.0.feed.set(feed).expect("it is followed once");
    }

    /// The events.
    ///
    /// # Panics
    /// Before [`Self::answering`].
    pub fn feed(&self) -> &Feed {
        self.0.feed.get().expect("the daemon answers")
    }

    pub(crate) fn followed(&self) -> Option<&Feed> {
        self.0.feed.get()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.daemon_pid.get()
    }

    /// Tells which process is the daemon, where it is under another program.
    pub fn is_process(&self, pid: u32) {
        self.0.daemon_pid.set(pid);
    }

    /// The id of the process that was started: the daemon, or what it is under.
    pub fn outer_pid(&self) -> u32 {
        self.0.pid
    }

    /// Its state directory.
    pub fn state_dir(&self) -> &Path {
        &self.0.state_dir
    }

    /// Its configuration.
    pub fn config(&self) -> &Path {
        &self.0.config
    }

    /// Its TCP listener.
    pub fn http(&self) -> &Endpoint {
        &self.0.http
    }

    /// Its control socket.
    pub fn control(&self) -> &Endpoint {
        &self.0.control
    }

    /// What it wrote to its standard output and error.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.0.log).unwrap_or_default()).into_owned()
    }

    /// Its memory in RAM, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        resident_bytes(self.pid())
    }

    /// GET over the control socket.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path)).await
    }

    /// POST over the control socket.
    pub async fn post(&self, path: &str) -> Answer {
        self.send(Request::post(path)).await
    }

    /// Sends a request over the control socket.
    pub async fn send(&self, request: Request) -> Answer {
        let shown = format!("{request:?}");
        request.send(&self.0.control).await.unwrap_or_else(|error| panic!("{shown}: {error:?}"))
    }

    /// Posts a command for a server, such as `stop?wait=30s`.
    pub async fn command(&self, id: &str, command: &str) -> Answer {
        self.post(&format!("/api/v1/servers/{id}/{command}")).await
    }

    /// Everything at a glance.
    pub async fn status(&self) -> StatusReport {
        serde_json::from_slice(&self.get("/api/v1/status").await.expect(200).body).expect("a status report")
    }

    /// One server at a glance.
    pub async fn report(&self, id: &str) -> ServerReport {
        let status = self.status().await;
        status.servers.into_iter().find(|server| server.model_id.as_str() == id).expect("a server of that id")
    }

    /// One server whole.
    pub async fn server(&self, id: &str) -> ServerDetail {
        serde_json::from_slice(&self.get(&format!("/api/v1/servers/{id}")).await.expect(200).body).expect("a server")
    }

    /// The output of a server that is kept.
    pub async fn output(&self, id: &str) -> String {
        self.get(&format!("/api/v1/servers/{id}/logs")).await.expect(200).text()
    }

    /// The metrics.
    pub async fn metrics(&self) -> String {
        self.get("/metrics").await.expect(200).text()
    }

    /// The first event that `predicate` takes, once it is there.
    pub async fn event(&self, what: &str, predicate: impl Fn(&Envelope) -> bool) -> Envelope {
        self.feed().find(what, Seq::new(0), predicate).await
    }

    /// The first event after `after` that `predicate` takes, once it is there.
    pub async fn event_after(&self, after: Seq, what: &str, predicate: impl Fn(&Envelope) -> bool) -> Envelope {
        self.feed().find(what, after, predicate).await
    }

    /// Waits for the first ready of a server.
    pub async fn ready(&self, id: &str) -> Envelope {
        self.event(&format!("{id} is ready"), |event| {
            is_of(event, id) && matches!(event.event, Event::ReadyReached { .. })
        })
        .await
    }

    /// Waits for the first failure of a server and returns its reason, its detail and its last lines.
    pub async fn failure(&self, id: &str) -> (FailureReason, String, Vec<String>) {
        let failed = |event: &Envelope| is_of(event, id) && matches!(event.event, Event::ServerFailed { .. });
        match self.event(&format!("{id} fails"), failed).await.event {
            Event::ServerFailed { reason, detail, lines } => (reason, detail, lines),
            _ => unreachable!("the predicate takes nothing else"),
        }
    }

    /// Waits for the first exit of a server's process.
    pub async fn exited(&self, id: &str) -> Envelope {
        self.event(&format!("{id} exits"), |event| {
            is_of(event, id) && matches!(event.event, Event::ServerExited { .. })
        })
        .await
    }

    /// Every event so far about a server. What the daemon knows now is in.
    pub async fn events_of(&self, id: &str) -> Vec<Envelope> {
        let seq = self.status().await.seq;
        self.feed().replay(seq).await;
        self.feed().events().into_iter().filter(|event| is_of(event, id)).collect()
    }

    /// How many events of a kind there are about a server.
    pub async fn count(&self, id: &str, kind: &str) -> usize {
        self.events_of(id).await.iter().filter(|event| event.event.kind() == kind).count()
    }

    /// Sends a signal to the daemon.
    pub fn signal(&self, signal: Signal) {
        kill(raw(self.pid()), signal).expect("the daemon runs");
    }

    /// Sends a signal to the daemon's process group, as a terminal does.
    pub fn signal_group(&self, signal: Signal) {
        killpg(raw(self.0.pid), signal).expect("the daemon runs");
    }

    /// Waits for its end; the test judges it.
    ///
    /// # Panics
    /// When it does not come within [`PATIENCE`].
    pub async fn exit(&self) -> ExitStatus {
        self.0.is_exit_seen.set(true);
        let mut exit = self.0.exit.clone();
        let ended = timeout(PATIENCE, exit.wait_for(Option::is_some)).await;
        let status = ended.unwrap_or_else(|_| panic!("the daemon does not end")).expect("it is waited for");
        status.expect("waited for it")
    }

    /// Waits for its end and returns the exit code; 128 and the signal where one ended it.
    pub async fn exit_code(&self) -> i32 {
        let status = self.exit().await;
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.exit.borrow().is_some()
    }

    /// Whether it has ended with exit code 0.
    pub(crate) fn ended_well(&self) -> bool {
        self.0.exit.borrow().is_some_and(|status| status.success())
    }

    pub(crate) fn is_exit_seen(&self) -> bool {
        self.0.is_exit_seen.get()
    }
}

fn raw(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("a process id"))
}

/// Whether an event is about a server.
fn is_of(event: &Envelope, id: &str) -> bool {
    event.server.as_ref().is_some_and(|server| server.as_str() == id)
}
