//! A running daemon: its addresses, its events, its requests, its end.

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

use crate::event_stream::EventStream;
use crate::fleet::TestFleet;
use crate::http::{Endpoint, TestRequest, TestResponse};
use crate::options::DaemonOptions;
use crate::{WAIT_LIMIT, daemon_program, eventually, resident_bytes};

/// A daemon process. Cheap to clone: all clones are the same process.
#[derive(Debug, Clone)]
pub struct TestDaemon(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The process that was spawned: the daemon, or the program that runs it ([`DaemonOptions::under`]).
    pid: u32,
    daemon_pid: Cell<u32>,
    state_dir: PathBuf,
    config: PathBuf,
    log: PathBuf,
    http: Endpoint,
    control: Endpoint,
    exit: watch::Receiver<Option<ExitStatus>>,
    /// Whether the test has asked for the exit status. An exit that it has not asked for fails the test.
    is_exit_seen: Cell<bool>,
    event_stream: OnceCell<EventStream>,
}

impl TestDaemon {
    /// Starts `llama-warden up` in the sandbox without waiting for it. `number` makes the name of its log unique.
    pub(crate) fn spawn(fleet: &TestFleet, options: &DaemonOptions, home: &Path, number: usize) -> Self {
        let config = fleet.write();
        let log = config.with_extension(format!("{number}.log"));
        let words: Vec<OsString> = options.under.iter().map(OsString::from).collect();
        let mut line =
            words.into_iter().chain([options.program.clone().unwrap_or_else(daemon_program).into_os_string()]);
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
            // A process group of its own, since a terminal sends Ctrl-C to a whole group.
            .process_group(0);
        let mut child = Command::from(command).kill_on_drop(true).spawn().expect("the daemon starts");
        let pid = child.id().expect("it has just been started");
        // A task reaps the child, so that any number of clones can wait for its exit status.
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
            event_stream: OnceCell::new(),
        }))
    }

    /// Waits until it answers, and starts to follow its events.
    ///
    /// # Panics
    /// If it exits instead, or does not answer within [`WAIT_LIMIT`].
    pub async fn answering(&self) {
        let control = &self.0.control;
        eventually("the daemon answers", WAIT_LIMIT, async || {
            assert!(
                self.exit_status().is_none(),
                "the daemon ended instead of answering: {:?}\n{}",
                self.exit_status(),
                self.log()
            );
            control.answers("/livez").await
        })
        .await;
        let event_stream =
            EventStream::open(control).await.unwrap_or_else(|error| panic!("no events: {error:?}\n{}", self.log()));
        self.0.event_stream.set(event_stream).expect("it is followed once");
    }

    /// Its events.
    ///
    /// # Panics
    /// If it is called before [`Self::answering`].
    pub fn event_stream(&self) -> &EventStream {
        self.0.event_stream.get().expect("the daemon answers")
    }

    pub(crate) fn followed(&self) -> Option<&EventStream> {
        self.0.event_stream.get()
    }

    /// The process id of the daemon.
    pub fn pid(&self) -> u32 {
        self.0.daemon_pid.get()
    }

    /// Sets the process id of the daemon where another program runs it ([`DaemonOptions::under`]).
    pub fn set_pid(&self, pid: u32) {
        self.0.daemon_pid.set(pid);
    }

    /// The process id of the program that was started: the daemon, or the one that runs it.
    pub fn outer_pid(&self) -> u32 {
        self.0.pid
    }

    /// Its state directory.
    pub fn state_dir(&self) -> &Path {
        &self.0.state_dir
    }

    /// The path of its configuration file.
    pub fn config(&self) -> &Path {
        &self.0.config
    }

    /// The address of its TCP listener.
    pub fn http(&self) -> &Endpoint {
        &self.0.http
    }

    /// The address of its control socket.
    pub fn control(&self) -> &Endpoint {
        &self.0.control
    }

    /// Its standard output and standard error so far; empty unless they go to a file.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.0.log).unwrap_or_default()).into_owned()
    }

    /// Its resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        resident_bytes(self.pid())
    }

    /// Sends a GET over the control socket.
    pub async fn get(&self, path: &str) -> TestResponse {
        self.send(TestRequest::get(path)).await
    }

    /// Sends a POST over the control socket.
    pub async fn post(&self, path: &str) -> TestResponse {
        self.send(TestRequest::post(path)).await
    }

    /// Sends a request over the control socket.
    ///
    /// # Panics
    /// If there is no response.
    pub async fn send(&self, request: TestRequest) -> TestResponse {
        let shown = format!("{request:?}");
        request.send(&self.0.control).await.unwrap_or_else(|error| panic!("{shown}: {error:?}"))
    }

    /// Posts a command for server `id`, such as `stop?wait=30s`.
    pub async fn command(&self, id: &str, command: &str) -> TestResponse {
        self.post(&format!("/api/v1/servers/{id}/{command}")).await
    }

    /// The report of the daemon and all servers.
    pub async fn status(&self) -> StatusReport {
        serde_json::from_slice(&self.get("/api/v1/status").await.expect(200).body).expect("a status report")
    }

    /// The entry of server `id` in the report of all servers.
    pub async fn report(&self, id: &str) -> ServerReport {
        let status = self.status().await;
        status.servers.into_iter().find(|server| server.model_id.as_str() == id).expect("a server of that id")
    }

    /// The detailed report of server `id`.
    pub async fn server(&self, id: &str) -> ServerDetail {
        serde_json::from_slice(&self.get(&format!("/api/v1/servers/{id}")).await.expect(200).body).expect("a server")
    }

    /// The kept output of server `id`.
    pub async fn output(&self, id: &str) -> String {
        self.get(&format!("/api/v1/servers/{id}/logs")).await.expect(200).text()
    }

    /// The metrics in the Prometheus text format.
    pub async fn metrics(&self) -> String {
        self.get("/metrics").await.expect(200).text()
    }

    /// Waits for the first event for which `predicate` is true. `what` describes it in the panic message.
    pub async fn event(&self, what: &str, predicate: impl Fn(&Envelope) -> bool) -> Envelope {
        self.event_stream().find(what, Seq::new(0), predicate).await
    }

    /// As [`Self::event`], for events after `after`.
    pub async fn event_after(&self, after: Seq, what: &str, predicate: impl Fn(&Envelope) -> bool) -> Envelope {
        self.event_stream().find(what, after, predicate).await
    }

    /// Waits for the first `ReadyReached` of server `id`.
    pub async fn ready(&self, id: &str) -> Envelope {
        self.first_of(id, "ReadyReached").await
    }

    /// Waits for the first `ServerFailed` of server `id`; returns its reason, its detail and its last lines.
    pub async fn failure(&self, id: &str) -> (FailureReason, String, Vec<String>) {
        match self.first_of(id, "ServerFailed").await.event {
            Event::ServerFailed { reason, detail, lines } => (reason, detail, lines),
            _ => unreachable!("its kind is ServerFailed"),
        }
    }

    /// Waits for the first `ServerExited` of server `id`.
    pub async fn exited(&self, id: &str) -> Envelope {
        self.first_of(id, "ServerExited").await
    }

    async fn first_of(&self, id: &str, kind: &str) -> Envelope {
        self.event(&format!("{kind} of {id}"), |event| is_of(event, id) && event.event.kind() == kind).await
    }

    /// Every event about server `id`, up to the daemon's state at the time of the call.
    pub async fn events_of(&self, id: &str) -> Vec<Envelope> {
        let seq = self.status().await.seq;
        self.event_stream().replay(seq).await;
        self.event_stream().events().into_iter().filter(|event| is_of(event, id)).collect()
    }

    /// The number of events of a kind among [`Self::events_of`].
    pub async fn count(&self, id: &str, kind: &str) -> usize {
        self.events_of(id).await.iter().filter(|event| event.event.kind() == kind).count()
    }

    /// Sends a signal to the daemon.
    pub fn signal(&self, signal: Signal) {
        kill(raw(self.pid()), signal).expect("the daemon runs");
    }

    /// Sends a signal to the daemon's process group, as a terminal does with Ctrl-C.
    pub fn signal_group(&self, signal: Signal) {
        killpg(raw(self.0.pid), signal).expect("the daemon runs");
    }

    /// Waits for its exit, which the test then has to check.
    ///
    /// # Panics
    /// If it does not exit within [`WAIT_LIMIT`].
    pub async fn exit(&self) -> ExitStatus {
        self.0.is_exit_seen.set(true);
        let mut exit = self.0.exit.clone();
        let ended = timeout(WAIT_LIMIT, exit.wait_for(Option::is_some)).await;
        let status = ended.unwrap_or_else(|_| panic!("the daemon does not end")).expect("it is waited for");
        status.expect("waited for it")
    }

    /// As [`Self::exit`]; returns the exit code, or 128 plus the number of the signal that ended it.
    pub async fn exit_code(&self) -> i32 {
        let status = self.exit().await;
        status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
    }

    /// Kills it, and waits for its end.
    pub async fn killed(&self) {
        self.signal(Signal::SIGKILL);
        assert_eq!(self.exit_code().await, 128 + 9);
    }

    /// Ends it in order, and waits for its end.
    pub async fn ended(&self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.exit_code().await, 0, "{}", self.log());
    }

    /// Its exit status; `None` while it runs.
    pub(crate) fn exit_status(&self) -> Option<ExitStatus> {
        *self.0.exit.borrow()
    }

    pub(crate) fn is_exit_seen(&self) -> bool {
        self.0.is_exit_seen.get()
    }
}

fn raw(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).expect("a process id"))
}

/// Whether an event is about server `id`.
fn is_of(event: &Envelope, id: &str) -> bool {
    event.server.as_ref().is_some_and(|server| server.as_str() == id)
}
