//! How long a hundred servers take to spawn: a launcher, command to `ServerSpawned`, beside a bare loop of
//! `posix_spawn` over the same command lines, which returns when the program is executed and does nothing else, in turns.
//!
//! `cargo bench -p llama-warden-launcher --bench spawning -- GUARDIAN PROGRAM MODEL ROUNDS`: GUARDIAN is a release build of
//! llama-warden, PROGRAM behaves like a llama-server, MODEL is a GGUF file. Each line on stdout is a pair of measurements
//! in milliseconds: `at-once`, the launcher with every command sent before the first spawn, and the bare loop, for all
//! servers; `one-by-one`, the same for one server at a time. `cargo xtask bench` provides the arguments and judges.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, PipeReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use llama_warden_component::Component;
use llama_warden_component_kit::{RunningComponent, TestBus};
use llama_warden_config::{ConfigSource, Configuration, Environment, Fleet, HostEnvironment};
use llama_warden_dialects::DialectSet;
use llama_warden_events::{BootId, Event, Incarnation, LaunchCommand, Rung, ServerId, Signal};
use llama_warden_launcher::{GuardianProgram, Launcher, LauncherSettings, Spawner};
use tokio::sync::watch;

const SERVERS: usize = 100;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The programs to measure, as the command line names them.
struct Subject {
    guardian: PathBuf,
    program: PathBuf,
    model: PathBuf,
    rounds: u64,
}

fn main() -> Result<()> {
    // Cargo passes --bench to every benchmark.
    let arguments: Vec<OsString> = std::env::args_os().skip(1).filter(|argument| argument != "--bench").collect();
    let Ok([guardian, program, model, rounds]) = <[OsString; 4]>::try_from(arguments) else {
        println!("nothing is measured without GUARDIAN PROGRAM MODEL ROUNDS");
        return Ok(());
    };
    let rounds = rounds.to_string_lossy().parse()?;
    let subject = Subject { guardian: guardian.into(), program: program.into(), model: model.into(), rounds };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(&subject))
}

async fn measure(subject: &Subject) -> Result<()> {
    let mut launching = Launching::new(subject)?;
    // The first launch asks the program what it is; no other does.
    launching.launch_all(Incarnation::new(0)).await?;
    launching.kill_all(Incarnation::new(0)).await?;
    for round in 0..subject.rounds {
        let incarnation = Incarnation::new(1 + 2 * round);
        let ours = launching.launch_all(incarnation).await?;
        launching.kill_all(incarnation).await?;
        let bare = launching.bare_all()?;
        println!("at-once {} {}", milliseconds(ours), milliseconds(bare));

        let incarnation = incarnation.next();
        for server in launching.servers.clone() {
            let ours = launching.launch([&server], incarnation).await?;
            launching.kill([&server], incarnation).await?;
            let began = Instant::now();
            let spawned = Bare::spawn(&launching.lines[&server])?;
            let bare = began.elapsed();
            spawned.end()?;
            println!("one-by-one {} {}", milliseconds(ours), milliseconds(bare));
        }
    }
    launching.component.end().await;
    Ok(())
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A launcher with its servers.
struct Launching {
    bus: TestBus,
    component: RunningComponent<<Launcher as Component>::Error>,
    servers: Vec<ServerId>,
    /// The command line of each, program first, as it was spawned the last time.
    lines: BTreeMap<ServerId, Vec<String>>,
}

impl Launching {
    fn new(subject: &Subject) -> Result<Self> {
        let mut bus = TestBus::new();
        let fleet = fleet(subject)?;
        let servers = fleet.iter().map(|server| server.id.clone()).collect();
        let settings = LauncherSettings {
            boot: BootId::from_random(std::process::id().into()),
            spawner: Spawner::start(GuardianProgram::Path(subject.guardian.clone()))?,
            outlive: false,
            bus: bus.bus().clone(),
            environment: std::env::vars_os().filter(|(name, _)| name == "PATH").collect(),
            dialects: DialectSet::built_in(),
            dialects_dir: None,
            state_dir: None,
        };
        let component = bus.run(Launcher::new(watch::channel(fleet).1, bus.lane().clone(), settings));
        Ok(Self { bus, component, servers, lines: BTreeMap::new() })
    }

    async fn launch_all(&mut self, incarnation: Incarnation) -> Result<Duration> {
        let servers = self.servers.clone();
        self.launch(&servers, incarnation).await
    }

    /// Launches servers side by side and returns how long it took until the last one ran its program.
    async fn launch<'a>(
        &mut self,
        servers: impl IntoIterator<Item = &'a ServerId>,
        incarnation: Incarnation,
    ) -> Result<Duration> {
        let began = Instant::now();
        let mut waiting = 0;
        for server in servers {
            self.bus.commands().send(LaunchCommand::LaunchServer { server: server.clone(), incarnation }).await?;
            waiting += 1;
        }
        for _ in 0..waiting {
            let heard = |event: &Event| matches!(event, Event::ServerSpawned { .. } | Event::ServerFailed { .. });
            let spawned = self.bus.wait_for(heard).await;
            match (&spawned.event, &spawned.server) {
                (Event::ServerSpawned { argv, .. }, Some(server)) => self.lines.insert(server.clone(), argv.to_vec()),
                (other, _) => return Err(format!("a server was not spawned: {other:?}").into()),
            };
        }
        Ok(began.elapsed())
    }

    async fn kill_all(&mut self, incarnation: Incarnation) -> Result<()> {
        let servers = self.servers.clone();
        self.kill(&servers, incarnation).await
    }

    async fn kill<'a>(
        &mut self,
        servers: impl IntoIterator<Item = &'a ServerId>,
        incarnation: Incarnation,
    ) -> Result<()> {
        let (signal, mut waiting) = (Signal::KILL, 0);
        for server in servers.into_iter().cloned() {
            let rung = Rung { index: 0, signal };
            self.bus.commands().send(LaunchCommand::DeliverSignal { server, incarnation, signal, rung }).await?;
            waiting += 1;
        }
        for _ in 0..waiting {
            self.bus.wait_for(|event| matches!(event, Event::ServerExited { .. })).await;
        }
        Ok(())
    }

    /// Spawns all of them without a launcher, one after the other.
    fn bare_all(&self) -> Result<Duration> {
        let began = Instant::now();
        let spawned: Vec<Bare> = self.lines.values().map(|line| Bare::spawn(line)).collect::<io::Result<_>>()?;
        let elapsed = began.elapsed();
        spawned.into_iter().try_for_each(Bare::end)?;
        Ok(elapsed)
    }
}

fn fleet(subject: &Subject) -> Result<Fleet> {
    // All are held until the last is found, so that none is given out twice.
    let listeners: Vec<TcpListener> =
        (0..SERVERS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
    let mut text = format!("[llama-server]\nbinary = {:?}\n", subject.program);
    for (number, listener) in listeners.iter().enumerate() {
        let port = listener.local_addr()?.port();
        text += &format!("[[servers]]\nid = \"s{number}\"\nport = {port}\nmodel = {:?}\n", subject.model);
    }
    let environment: Environment = std::env::vars_os().filter(|(name, _)| name == "PATH").collect();
    let configuration = Configuration::parse(&ConfigSource::text(std::env::temp_dir(), text), &environment)
        .map_err(|problems| problems.to_string())?;
    configuration.resolve(None, &HostEnvironment::current()).map_err(|problems| problems.to_string().into())
}

/// A server without supervision. Its output fits into its pipes.
struct Bare {
    child: Child,
    _output: [PipeReader; 2],
}

impl Bare {
    fn spawn(line: &[String]) -> io::Result<Self> {
        let (program, arguments) = line.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let (stdout, stdout_writer) = io::pipe()?;
        let (stderr, stderr_writer) = io::pipe()?;
        let child = Command::new(program)
            .args(arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(stdout_writer)
            .stderr(stderr_writer)
            .spawn()?;
        Ok(Self { child, _output: [stdout, stderr] })
    }

    fn end(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}
