//! A launcher on a bus, with servers that are shell scripts.

use std::ffi::OsString;
use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llama_warden_bus::{Accepted, Bus};
use llama_warden_component::Component;
use llama_warden_component_kit::{RunningComponent, TestBus};
use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_dialects::DialectSet;
use llama_warden_events::{
    BootId, Envelope, Event, Incarnation, LaunchCommand, ProcessEnd, Refused, Rung, ServerId, Signal,
};
use llama_warden_launcher::{GuardianProgram, Launcher, LauncherSettings, Spawner};
use tokio::sync::watch;

/// Runs `check` on a runtime of its own.
pub fn on_runtime(check: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("builds");
    runtime.block_on(check);
}

/// The run of every launcher in this process.
pub fn boot() -> BootId {
    BootId::from_random(u64::from(std::process::id()) << 32)
}

/// The server that most tests have.
pub fn id() -> ServerId {
    ServerId::new("a").expect("valid")
}

/// A launcher that runs, and the files of its servers.
pub struct LauncherFixture {
    pub bus: TestBus,
    pub folder: tempfile::TempDir,
    running: RunningComponent<<Launcher as Component>::Error>,
    fleet: watch::Sender<Fleet>,
}

impl LauncherFixture {
    /// A launcher without servers, whose daemon has `environment`.
    pub async fn with_environment(environment: &[(&str, &str)]) -> Self {
        Self::open(environment, None).await
    }

    /// The same with a state directory.
    pub async fn open(environment: &[(&str, &str)], state_dir: Option<PathBuf>) -> Self {
        Self::on(TestBus::new(), environment, state_dir)
    }

    /// The same on a bus that the test has made.
    pub fn on(bus: TestBus, environment: &[(&str, &str)], state_dir: Option<PathBuf>) -> Self {
        Self::with_fleet(bus, Fleet::default(), environment, state_dir)
    }

    /// A launcher that knows `server` from its beginning, as that of a daemon does: it ends the processes of others.
    pub async fn after(server: &ServerSpec, environment: &[(&str, &str)], state_dir: &Path) -> Self {
        let bus = TestBus::new();
        bus.configure(&server.id).await;
        Self::with_fleet(bus, Fleet::new(vec![server.clone()]), environment, Some(state_dir.to_owned()))
    }

    fn with_fleet(mut bus: TestBus, fleet: Fleet, environment: &[(&str, &str)], state_dir: Option<PathBuf>) -> Self {
        let (fleet, fleet_seen) = watch::channel(fleet);
        let launcher = Launcher::new(fleet_seen, bus.lane().clone(), settings(bus.bus(), environment, state_dir));
        let running = bus.run(launcher);
        Self { bus, folder: tempfile::tempdir().expect("tempdir"), running, fleet }
    }

    /// A launcher with one server, `a`, that runs `body` in a shell.
    pub async fn new(body: &str) -> Self {
        let fixture = Self::with_environment(&[("PATH", "/usr/bin:/bin")]).await;
        let server = fixture.server("a", body);
        fixture.configure([server]).await;
        fixture
    }

    /// A server whose executable answers the questions of the launcher and then runs `body` in a shell.
    pub fn server(&self, id: &str, body: &str) -> ServerSpec {
        server_in(self.folder.path(), id, body)
    }

    /// Writes an executable file.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        executable(&self.folder.path().join(name), content)
    }

    /// A file that servers may write.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes these the servers of the fleet.
    pub async fn configure(&self, servers: impl IntoIterator<Item = ServerSpec>) {
        let servers: Vec<ServerSpec> = servers.into_iter().collect();
        for server in &servers {
            self.bus.configure(&server.id).await;
        }
        self.fleet.send_replace(Fleet::new(servers));
    }

    /// Asks for a launch.
    pub async fn try_launch(&self, server: &ServerId, incarnation: u64) -> Result<Accepted, Refused> {
        let incarnation = Incarnation::new(incarnation);
        self.bus.commands().send(LaunchCommand::LaunchServer { server: server.clone(), incarnation }).await
    }

    /// Launches server `a` and returns its process id once it runs.
    pub async fn launch(&mut self, incarnation: u64) -> u32 {
        self.try_launch(&id(), incarnation).await.expect("accepted");
        self.spawned().await
    }

    /// The process id of the next server that runs.
    pub async fn spawned(&mut self) -> u32 {
        let spawned = self.bus.wait_for(|event| matches!(event, Event::ServerSpawned { .. })).await;
        match spawned.event {
            Event::ServerSpawned { pid, .. } => pid,
            _ => unreachable!("only that was picked"),
        }
    }

    /// Sends a signal to server `a`.
    pub async fn signal(&self, incarnation: u64, signal: Signal) -> Result<Accepted, Refused> {
        let (server, incarnation, rung) = (id(), Incarnation::new(incarnation), Rung { index: 0, signal });
        self.bus.commands().send(LaunchCommand::DeliverSignal { server, incarnation, signal, rung }).await
    }

    /// The last event of a launch: its exit or its failure.
    pub async fn over(&mut self) -> Arc<Envelope> {
        let is_last = |event: &Event| matches!(event, Event::ServerExited { .. } | Event::ServerFailed { .. });
        self.bus.wait_for(is_last).await
    }

    /// How the next server to exit ended, and how many processes were swept.
    pub async fn exited(&mut self) -> (ProcessEnd, u32) {
        match &self.over().await.event {
            Event::ServerExited { end, swept } => (*end, *swept),
            other => panic!("expected an exit, got {other:?}:\n{}", self.bus.log()),
        }
    }

    /// Waits until server `a` has printed `line`, and returns the line before it.
    pub async fn printed(&self, line: &str) {
        let mut followers =
            llama_warden_events::StreamName::ALL.map(|stream| self.bus.lane().follow(&id(), stream, 1000));
        let [stderr, stdout] = &mut followers;
        let is_it = |followed: &llama_warden_bus::FollowedLine| matches!(followed, llama_warden_bus::FollowedLine::Line(kept) if kept.bytes == line.as_bytes());
        let printed = tokio::time::timeout(llama_warden_component_kit::PATIENCE, async {
            loop {
                let lines = tokio::select! {
                    lines = stderr.next() => lines,
                    lines = stdout.next() => lines,
                };
                if lines.iter().flatten().any(is_it) {
                    return;
                }
            }
        });
        printed.await.unwrap_or_else(|_| panic!("`{line}` was not printed: {:?}", self.lines()));
    }

    /// Every line of server `a`, as text.
    pub fn lines(&self) -> Vec<String> {
        let lines = self.bus.lane().tail(&id(), None, 1000);
        lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect()
    }

    /// Ends the launcher, which must not take long.
    pub async fn end(self) {
        self.running.end().await;
    }
}

/// How a launcher makes processes that inherit from `environment`.
pub fn settings(bus: &Bus, environment: &[(&str, &str)], state_dir: Option<PathBuf>) -> LauncherSettings {
    let inherited = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    LauncherSettings {
        boot: boot(),
        outlive: false,
        bus: bus.clone(),
        spawner: Spawner::start(GuardianProgram::OwnExecutable).expect("starts"),
        environment: inherited.collect(),
        dialects: DialectSet::built_in(),
        dialects_dir: None,
        state_dir,
    }
}

/// A server in `folder`; see [`LauncherFixture::server`].
pub fn server_in(folder: &Path, id: &str, body: &str) -> ServerSpec {
    let help = "--model FNAME  x\\n--host HOST  x\\n--port PORT  x\\n--alias STRING  x\\n";
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in\n--version) echo 'version: 9093 (x)' >&2; exit;;\n--help) printf %b '{help}'; exit;;\nesac\n{body}\n"
    );
    let binary = executable(&folder.join(format!("{id}-server")), script);
    let model = folder.join("tiny.gguf");
    fs::write(&model, [b"GGUF\x03\0\0\0".as_slice(), &[0; 16]].concat()).expect("write");
    spec(id, binary, model)
}

/// Writes an executable file.
pub fn executable(path: &Path, content: impl AsRef<[u8]>) -> PathBuf {
    fs::write(path, content).expect("write");
    fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("chmod");
    path.to_owned()
}

/// Whether a process runs; a zombie does not.
pub fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Whether a process exists in any form.
pub fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// Reads the process id that a server wrote into `path`.
pub fn read_pid(path: &Path) -> u32 {
    fs::read_to_string(path).expect("was written").trim().parse().expect("a process id")
}

/// This executable as the program that `child` names, as a line of a shell script.
pub fn child_command(child: &str) -> String {
    let own = std::env::current_exe().expect("known");
    format!("exec '{}' child {child}", own.display())
}

/// A server without options of its own, so that a command line has only what its test asks for.
fn spec(id: &str, binary: PathBuf, model: PathBuf) -> ServerSpec {
    ServerSpec {
        model,
        port: free_port(),
        binary: binary.into(),
        flags: Default::default(),
        log_ring_bytes: 64 * 1024,
        ..ServerSpec::clone(&llama_warden_component_kit::spec(id, "restart = { policy = \"never\" }"))
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("bound").port()
}

/// Waits until no child of this process is a zombie.
pub fn no_zombies() {
    let deadline = std::time::Instant::now() + llama_warden_component_kit::PATIENCE;
    let mut zombies = zombie_children();
    while !zombies.is_empty() {
        assert!(std::time::Instant::now() < deadline, "{zombies:?} are left");
        std::thread::yield_now();
        zombies = zombie_children();
    }
}

/// The zombies among the children of this process.
fn zombie_children() -> Vec<u32> {
    let this = std::process::id().to_string();
    let entries = fs::read_dir("/proc").expect("readable");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_zombie_child = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit_once(") ").map(|(_, rest)| rest.split(' ').take(2).collect::<Vec<_>>());
        fields.is_some_and(|fields| fields == ["Z", this.as_str()])
    };
    pids.filter(is_zombie_child).collect()
}
