//! Starts stand-ins, reads their lines, sends requests to them, and kills them at the end of the test.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper that fails is a failed test")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use llama_warden_stand_in::{SCRIPT_VARIABLE, Script, Stream};
use llama_warden_test_parts::ports::free_port;
use llama_warden_tiny_gguf::TinyModel;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// Longer than anything here takes on a busy machine.
pub const WAIT_LIMIT: Duration = Duration::from_secs(20);

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_stand-in-llama-server");

/// A temporary folder with a valid model.
pub struct ModelFolder {
    pub directory: tempfile::TempDir,
}

impl ModelFolder {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        TinyModel::new("Tiny").write(&directory.path().join("tiny.gguf")).unwrap();
        Self { directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn model(&self) -> PathBuf {
        self.path("tiny.gguf")
    }
}

/// A line of the stand-in: its stream, and its bytes without the newline.
pub type OutputLine = (Stream, Vec<u8>);

pub struct RunningStandIn {
    pub child: Child,
    pub port: u16,
    lines: Receiver<OutputLine>,
    pub seen: Vec<OutputLine>,
}

/// Starts a server with `script` on a free port, with the model in `folder`.
pub fn start(folder: &ModelFolder, script: &Script, more: &[&str]) -> RunningStandIn {
    start_on(free_port().unwrap(), &folder.model(), script, more)
}

pub fn start_on(port: u16, model: &Path, script: &Script, more: &[&str]) -> RunningStandIn {
    let mut child = Command::new(PROGRAM)
        .args(["-m", model.to_str().unwrap(), "--port", &port.to_string()])
        .args(more)
        .env(SCRIPT_VARIABLE, script.to_json())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap();
    let (sender, lines) = channel();
    let outputs: [(Stream, Box<dyn Read + Send>); 2] = [
        (Stream::Stdout, Box::new(child.stdout.take().unwrap())),
        (Stream::Stderr, Box::new(child.stderr.take().unwrap())),
    ];
    for (stream, output) in outputs {
        let sender = sender.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if sender.send((stream, line)).is_err() {
                    return;
                }
            }
        });
    }
    RunningStandIn { child, port, lines, seen: Vec::new() }
}

impl RunningStandIn {
    /// Waits for the next line that contains `text`.
    pub fn line(&mut self, text: &str) -> OutputLine {
        let deadline = Instant::now() + WAIT_LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if String::from_utf8_lossy(&line.1).contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("no line with {text:?} ({error}) after {}", self.text()),
            }
        }
    }

    /// Reads until both streams end, and returns all lines so far.
    pub fn rest(&mut self) -> String {
        let deadline = Instant::now() + WAIT_LIMIT;
        while let Ok(line) = self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.seen.push(line);
        }
        self.text()
    }

    pub fn text(&self) -> String {
        self.seen.iter().map(|(_, line)| format!("{}\n", String::from_utf8_lossy(line))).collect()
    }

    pub fn ready(&mut self) {
        self.line("listening on http");
    }

    pub fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for the end; returns the exit code, or the negative number of the signal.
    pub fn end(&mut self) -> i32 {
        let deadline = Instant::now() + WAIT_LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().or(status.signal().map(|signal| -signal)).unwrap();
            }
            assert!(Instant::now() < deadline, "it does not end; {}", self.text());
            // await: std offers no wait for a child with a time limit.
            thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        TestClient { port: self.port }.get(path)
    }

    pub fn ask(&self, method: &str, path: &str, header: &str, body: &str) -> (u16, String) {
        TestClient { port: self.port }.ask(method, path, header, body)
    }

    pub fn raw(&self, method: &str, path: &str, limit: Duration) -> String {
        TestClient { port: self.port }.raw(method, path, "", "", limit)
    }
}

/// An HTTP client of a port, with one connection per request.
pub struct TestClient {
    pub port: u16,
}

impl TestClient {
    pub fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path, "", "")
    }

    /// Sends a request; returns the status and the body. The status is 0 if there is no response.
    pub fn ask(&self, method: &str, path: &str, header: &str, body: &str) -> (u16, String) {
        let reply = self.raw(method, path, header, body, WAIT_LIMIT);
        let status = reply.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0);
        (status, reply.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    pub fn raw(&self, method: &str, path: &str, header: &str, body: &str, limit: Duration) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return String::new() };
        stream.set_read_timeout(Some(limit)).unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{header}Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        String::from_utf8_lossy(&reply).into_owned()
    }
}

impl Drop for RunningStandIn {
    fn drop(&mut self) {
        let _ = killpg(Pid::from_raw(self.child.id() as i32), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Polls until `holds` returns true.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + WAIT_LIMIT;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        // await: no event announces changes of another process's files and sockets.
        thread::sleep(Duration::from_millis(5));
    }
}
