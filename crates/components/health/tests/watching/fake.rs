//! A llama-server as a client and the kernel see it: a listener on loopback and, apart from it, a process.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, PoisonError};

use llama_warden_component_kit::PATIENCE;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How the fake server treats a request.
#[derive(Debug, Clone, Copy)]
pub enum Reaction {
    /// This status and body.
    Say(u16, &'static str),
    /// Nothing, until the client gives up.
    Hang,
}

/// A listener whose reactions the test sets, by `METHOD /path`; what is not set is 404.
#[derive(Debug)]
pub struct FakeServer {
    pub port: u16,
    reactions: Arc<Mutex<BTreeMap<&'static str, Reaction>>>,
    asked: watch::Sender<BTreeMap<String, usize>>,
}

impl FakeServer {
    pub async fn start(reactions: &[(&'static str, Reaction)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let port = listener.local_addr().expect("has an address").port();
        let reactions = Arc::new(Mutex::new(reactions.iter().copied().collect()));
        let asked = watch::Sender::new(BTreeMap::new());
        let server = Self { port, reactions: reactions.clone(), asked: asked.clone() };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, reactions.clone(), asked.clone()));
            }
        });
        server
    }

    pub async fn healthy() -> Self {
        Self::start(&[("GET /health", Reaction::Say(200, "{}"))]).await
    }

    pub fn set(&self, what: &'static str, reaction: Reaction) {
        self.reactions.lock().unwrap_or_else(PoisonError::into_inner).insert(what, reaction);
    }

    /// How often this was asked for; `connection` counts connections.
    pub fn times(&self, what: &str) -> usize {
        self.asked.borrow().get(what).copied().unwrap_or_default()
    }

    /// Waits until this was asked for `more` times from now on.
    pub async fn asked(&self, what: &str, more: usize) {
        let goal = self.times(what) + more;
        let mut asked = self.asked.subscribe();
        let reached = asked.wait_for(|asked| asked.get(what).is_some_and(|times| *times >= goal));
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        assert!(matches!(reached, Ok(Ok(_))), "`{what}` was not asked for often enough: {:?}", self.asked.borrow());
    }
}

async fn serve(
    mut stream: TcpStream,
    reactions: Arc<Mutex<BTreeMap<&'static str, Reaction>>>,
    asked: watch::Sender<BTreeMap<String, usize>>,
) {
    let count = |what: &str| asked.send_modify(|asked| *asked.entry(what.to_owned()).or_default() += 1);
    count("connection");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let what = head.split(" HTTP/").next().unwrap_or_default().to_owned();
    let reaction = reactions.lock().unwrap_or_else(PoisonError::into_inner).get(what.as_str()).copied();
    count(&what);
    match reaction.unwrap_or(Reaction::Say(404, "")) {
        Reaction::Say(status, body) => {
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            // The client may be gone.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
        Reaction::Hang => while matches!(stream.read(&mut [0; 64]).await, Ok(1..)) {},
    }
}

/// A process in a group of its own, killed at the end of the test.
#[derive(Debug)]
pub struct FakeProcess(Child);

impl FakeProcess {
    /// Does nothing.
    pub fn idle() -> Self {
        Self::run(Command::new("/bin/sleep").arg("60"))
    }

    /// Computes on one core.
    pub fn busy() -> Self {
        Self::run(Command::new("/bin/sh").args(["-c", "while :; do :; done"]))
    }

    fn run(command: &mut Command) -> Self {
        Self(command.process_group(0).spawn().expect("spawns"))
    }

    pub fn stop(&self) {
        self.signal(Signal::SIGSTOP);
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn start_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("runs");
        let (_, after_name) = stat.rsplit_once(')').expect("has a name");
        after_name.split_ascii_whitespace().nth(22 - 3).expect("has field 22").parse().expect("is a number")
    }

    fn signal(&self, signal: Signal) {
        // It may be gone already.
        let _ = killpg(Pid::from_raw(self.0.id().cast_signed()), signal);
    }
}

impl Drop for FakeProcess {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.0.wait();
    }
}
