//! Random commands, signals, files and behaviour, with a rest every few seconds.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use llama_warden_test_parts::error::{Error, OnPath};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::behaviour;
use super::control::SoakClient;
use super::rest::{RestComparison, RestSample, compare, largest_shim};
use crate::daemon::{MeasuredDaemon, WAIT_LIMIT};
use crate::ports;
use crate::procfs;
use crate::programs::{self, Programs, quoted};

const SERVERS: usize = 6;
/// Time between two rests.
const BUSY: Duration = Duration::from_secs(5);
/// Rests whose memory is not compared: the daemon is still new then.
const WARM_UP: usize = 2;

/// Short limits, so that much happens. The event log is small, so that its rotation is part of it. A server that is frozen while it
/// loads passes the cap, since it said that it loads; only the stall timeout ends it, and whoever waits for the fleet until then.
const LIMITS: &str = "[logs]\nring = \"16KiB\"\nevent-log = \"256KiB\"\n\
    [restart]\ninitial-delay = \"30ms\"\nmax-delay = \"300ms\"\nmax-attempts = 3\nstable-after = \"2s\"\n\
    [stop]\ngrace = \"400ms\"\n[readiness]\ntimeout = \"2s\"\nstall-timeout = \"3s\"\n\
    [health]\ninterval = \"200ms\"\ntimeout = \"100ms\"\nfailures = 2\n";

/// A daemon with its servers and everything that a session does to them.
pub(super) struct SoakSession {
    pub(super) daemon: MeasuredDaemon,
    pub(super) control: SoakClient,
    pub(super) folder: PathBuf,
    header: String,
    models: Vec<PathBuf>,
    ports: Vec<u16>,
    rng: Rng,
    /// Streams that are open, and listeners that take ports.
    streams: Vec<UnixStream>,
    listeners: Vec<TcpListener>,
}

/// Soaks for `time` and compares the rests.
///
/// # Errors
/// When the daemon does not do what it is told, or leaves something behind.
pub fn run(programs: &Programs, time: Duration, seed: u64) -> Result<Vec<RestComparison>, Error> {
    let home = programs::empty_folder()?;
    let compared = soak(programs, home.path(), time, seed);
    keep_if_failed(home, compared)
}

/// Keeps the folder of a session that failed: the daemon's log and events there say what it did.
pub(super) fn keep_if_failed<T>(home: TempDir, result: Result<T, Error>) -> Result<T, Error> {
    if result.is_err() {
        eprintln!("soak: the log and the state of the daemon are kept in {}", home.keep().display());
    }
    result
}

fn soak(programs: &Programs, home: &Path, time: Duration, seed: u64) -> Result<Vec<RestComparison>, Error> {
    let mut session = SoakSession::start(programs, home, SERVERS, seed)?;
    let idle = session.rest()?;
    let (end, mut samples, mut steps) = (Instant::now() + time, Vec::new(), 0_u64);
    while Instant::now() < end {
        let rest_at = (Instant::now() + BUSY).min(end);
        while Instant::now() < rest_at {
            session.act()?;
            steps += 1;
            // The pause is part of the randomness, not a wait for something.
            thread::sleep(Duration::from_millis(session.rng.u64(..60)));
        }
        samples.push(session.rest()?);
        eprintln!("soak: {} rests, {steps} actions, {:?}", samples.len(), samples[samples.len() - 1]);
    }
    let skipped = WARM_UP.min(samples.len().saturating_sub(2));
    session.end()?;
    Ok(compare(&idle, &samples[skipped..]))
}

impl SoakSession {
    pub(super) fn start(programs: &Programs, folder: &Path, servers: usize, seed: u64) -> Result<Self, Error> {
        let models = (0..servers).map(|number| programs::model(folder, &format!("m{number}"), 0));
        let models = models.collect::<Result<Vec<_>, _>>()?;
        let ports = ports::free_ports(servers)?;
        let header = format!("[llama-server]\nbinary = {}\n{LIMITS}", quoted(&programs.stand_in));
        let sections = sections(&header, &models, &ports, |_| Some("enabled = false".to_owned()));
        let daemon = MeasuredDaemon::start(&programs.daemon, folder, &sections)?;
        let control = SoakClient(folder.join("state/control.sock"));
        // It accepts connections before it has a guardian, and answers afterwards.
        control.servers()?;
        let (rng, folder) = (Rng::with_seed(seed), folder.to_owned());
        let (streams, listeners) = (Vec::new(), Vec::new());
        Ok(Self { daemon, control, folder, header, models, ports, rng, streams, listeners })
    }

    /// Does one random thing. Refusals are answers; only a daemon that does not answer is an error.
    fn act(&mut self) -> Result<(), Error> {
        let rng = &mut self.rng;
        let (server, stop_options) =
            (rng.usize(..self.models.len()), ["", "", "force=true", "grace=50ms"][rng.usize(..4)]);
        let (script, signal) =
            (behaviour::script(rng), [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2][rng.usize(..3)]);
        match self.rng.u8(..32) {
            0..=4 => drop(self.control.post(&format!("/api/v1/servers/s{server}/start"))?),
            5..=7 => drop(self.control.post(&format!("/api/v1/servers/s{server}/stop?{stop_options}"))?),
            8..=12 => drop(self.control.post(&format!("/api/v1/servers/s{server}/restart?{stop_options}"))?),
            13..=18 => self.write_script(server, script)?,
            19..=20 => self.change_configuration()?,
            21 => drop(self.control.post("/api/v1/reload?force=true")?),
            22 => {
                let profile = ["some", "others", "unknown"][self.rng.usize(..3)];
                self.control.post(&format!("/api/v1/profiles/{profile}/activate"))?;
            }
            23..=26 => self.signal_server(server)?,
            27 => self.signal_daemon(signal)?,
            28 => self.take_port(server),
            29..=30 => self.open_or_close_a_stream()?,
            _ => drop(self.daemon.ask(&["status"])?),
        }
        Ok(())
    }

    pub(super) fn write_script(&self, server: usize, script: &str) -> Result<(), Error> {
        let path = self.models[server].with_extension("gguf.stand-in.json");
        // In one step: a server that starts now reads the old script or the new one.
        let new = path.with_extension("new");
        fs::write(&new, script).on("write", &new)?;
        fs::rename(&new, &path).on("write", &path)
    }

    /// Writes another configuration, which the daemon notices by itself: servers come and go and change, or it is invalid.
    fn change_configuration(&mut self) -> Result<(), Error> {
        let rng = &mut self.rng;
        let mut text = sections(&self.header, &self.models, &self.ports, |_| match rng.u8(..6) {
            0 => None,
            1 => Some("enabled = false".to_owned()),
            2 => Some(format!("flags = {{ ctx-size = {} }}", rng.u32(1..4) * 512)),
            _ => Some(String::new()),
        });
        if rng.u8(..8) == 0 {
            text.push_str("[nonsense]\n");
        }
        self.daemon.configure(&text)
    }

    /// Sends a signal to the process of a server, as an operator or the kernel may.
    fn signal_server(&mut self, server: usize) -> Result<(), Error> {
        let signals = [
            Signal::SIGKILL,
            Signal::SIGTERM,
            Signal::SIGSEGV,
            Signal::SIGABRT,
            Signal::SIGSTOP,
            Signal::SIGCONT,
            Signal::SIGHUP,
        ];
        let signal = signals[self.rng.usize(..signals.len())];
        let name = format!("s{server}");
        let servers = self.control.servers()?;
        let pid = servers.iter().find(|report| report["model_id"] == name).and_then(|report| report["pid"].as_i64());
        if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
            // It may be gone by now; its number is not in use again so soon.
            let _ = kill(Pid::from_raw(pid), signal);
        }
        Ok(())
    }

    fn signal_daemon(&self, signal: Signal) -> Result<(), Error> {
        let pid = i32::try_from(self.daemon.pid()).ok();
        let pid = pid.ok_or_else(|| Error::missing("the daemon has no process id", "report this"))?;
        kill(Pid::from_raw(pid), signal).map_err(Into::into).on("send a signal to", Path::new("the daemon"))
    }

    /// Listens on the port of a server until the next rest. Fails where the server listens already, which is fine.
    fn take_port(&mut self, server: usize) {
        self.listeners.extend(TcpListener::bind(("127.0.0.1", self.ports[server])));
    }

    fn open_or_close_a_stream(&mut self) -> Result<(), Error> {
        if self.streams.len() > 4 || (!self.streams.is_empty() && self.rng.bool()) {
            let one = self.rng.usize(..self.streams.len());
            self.streams.swap_remove(one);
            return Ok(());
        }
        let path = ["/api/v1/events?follow=true", "/api/v1/servers/s0/logs?follow=true"][self.rng.usize(..2)];
        let socket = &self.control.0;
        let mut stream = UnixStream::connect(socket).on("connect to", socket)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").on("write to", socket)?;
        self.streams.push(stream);
        Ok(())
    }

    /// Stops every server, lets go of everything, and measures the daemon once it does nothing more.
    ///
    /// # Errors
    /// When a server does not stop in time.
    pub(super) fn rest(&mut self) -> Result<RestSample, Error> {
        self.streams.clear();
        self.listeners.clear();
        let shim = largest_shim(self.daemon.pid())?;
        let text = sections(&self.header, &self.models, &self.ports, |_| Some("enabled = false".to_owned()));
        self.daemon.configure(&text)?;
        self.expect(200, "/api/v1/reload?force=true&wait=60s")?;
        for server in 0..self.models.len() {
            self.expect(200, &format!("/api/v1/servers/s{server}/stop?force=true&wait=60s"))?;
        }
        let deadline = Instant::now() + WAIT_LIMIT;
        loop {
            let servers = self.control.servers()?;
            let left: Vec<String> = servers
                .iter()
                .filter(|report| !report["pid"].is_null() || report["phase"] == "backing-off")
                .map(|report| format!("{} is {}", report["model_id"], report["phase"]))
                .collect();
            if left.is_empty() {
                break;
            }
            if Instant::now() > deadline {
                return Err(Error::missing(format!("not stopped: {}", left.join(", ")), "read the log of the daemon"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        self.daemon.wait_until_idle()?;
        RestSample::take(self.daemon.pid(), &self.folder.join("state"), shim)
    }

    /// Posts a command that must be answered with the status `expected`.
    ///
    /// # Errors
    /// When it is answered otherwise.
    pub(super) fn expect(&self, expected: u16, path: &str) -> Result<(), Error> {
        let (status, body) = self.control.post(path)?;
        if status == expected {
            return Ok(());
        }
        let problem = format!("`{path}` was answered with {status} instead of {expected}: {body}");
        Err(Error::missing(problem, "read the log of the daemon"))
    }

    /// Shuts the daemon down amid running servers, and checks that nothing is left.
    ///
    /// # Errors
    /// When the daemon fails, or a process that names the folder of the session is left.
    pub(super) fn end(self) -> Result<(), Error> {
        for server in 0..self.models.len() {
            self.write_script(server, "{\"max_life_s\": 300}")?;
            self.control.post(&format!("/api/v1/servers/s{server}/start?wait=10s"))?;
        }
        self.daemon.stop()?;
        let left = procfs::processes_naming(&self.folder);
        if left.is_empty() {
            return Ok(());
        }
        Err(Error::missing(format!("the shutdown left processes: {left:?}"), "see why they were not found"))
    }
}

/// The configuration of the servers, each with the keys that `keys` returns, or left out.
fn sections(header: &str, models: &[PathBuf], ports: &[u16], mut keys: impl FnMut(usize) -> Option<String>) -> String {
    let mut text = header.to_owned();
    let mut names = Vec::new();
    for (number, (model, port)) in models.iter().zip(ports).enumerate() {
        let Some(keys) = keys(number) else { continue };
        let model = quoted(model);
        // Writing into a string cannot fail.
        let _ = writeln!(text, "[[servers]]\nid = \"s{number}\"\nmodel = {model}\nport = {port}\n{keys}");
        names.push(format!("s{number}"));
    }
    let half = names.len() / 2;
    for (profile, servers) in [("some", &names[..half]), ("others", &names[half..])] {
        if !servers.is_empty() {
            let _ = writeln!(text, "[profiles.{profile}]\nservers = {servers:?}");
        }
    }
    text
}
