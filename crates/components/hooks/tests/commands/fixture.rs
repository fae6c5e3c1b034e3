//! A server `a` with hooks, and the component that runs them.

use std::path::Path;
use std::time::{Duration, Instant};

use llama_warden_bus::{BusClosed, EventDraft};
use llama_warden_component_kit::{PATIENCE, RunningComponent, TestBus, card, fleet, server};
use llama_warden_config::Fleet;
use llama_warden_events::{Event, HookOutcome, HookPoint, Incarnation, ProcessEnd, ReadyVia};
use llama_warden_hooks::Hooks;
use llama_warden_processes::guardian;
use llama_warden_processes::spawn_request::GuardianProgram;
use llama_warden_processes::spawner::Spawner;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tokio::sync::watch;

/// Runs before `main`, so that this executable can be its own guardian.
#[ctor::ctor]
fn be_the_guardian() {
    if guardian::run_if_requested(std::env::args_os()).is_some() {
        std::process::exit(0);
    }
}

pub struct HooksFixture {
    pub bus: TestBus,
    pub running: RunningComponent<BusClosed>,
    fleet: watch::Sender<Fleet>,
}

impl HooksFixture {
    /// With these hooks, in the syntax of the configuration.
    pub async fn with(hooks: &str) -> Self {
        Self::on(TestBus::new(), hooks).await
    }

    pub async fn on(mut bus: TestBus, hooks: &str) -> Self {
        let a = server("a");
        bus.publish(EventDraft::server(a.clone(), Event::ServerConfigured { card: card(&a).into() })).await;
        let (fleet, seen) = watch::channel(configured(hooks));
        let spawner = Spawner::start(GuardianProgram::OwnExecutable).expect("starts");
        let running = bus.run(Hooks::build(&bus.context_of(seen), spawner));
        Self { bus, running, fleet }
    }

    /// Publishes events about a launch of the server.
    pub async fn say(&self, incarnation: u64, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.bus.publish(EventDraft::incarnation(server("a"), Incarnation::new(incarnation), event)).await;
        }
    }

    /// Takes the server out of the configuration.
    pub fn forget(&self) {
        self.fleet.send_replace(Fleet::default());
    }

    pub async fn completed(&mut self, hook: HookPoint) -> HookOutcome {
        let completed = |event: &Event| matches!(event, Event::HookCompleted { hook: ended, .. } if *ended == hook);
        match &self.bus.wait_for(completed).await.event {
            Event::HookCompleted { outcome, .. } => outcome.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until a command has written `file`.
    pub async fn is_written(&self, file: &Path) {
        let began = Instant::now();
        while !file.exists() {
            assert!(began.elapsed() < PATIENCE, "the command did not write; events so far:\n{}", self.bus.log());
            tokio::task::yield_now().await;
        }
    }
}

/// A fleet of `a`.
fn configured(hooks: &str) -> Fleet {
    fleet(&format!("[[servers]]\nid = \"a\"\nmodel = \"/models/tiny.gguf\"\nhooks = {{ {hooks} }}"))
}

/// A hook that runs a script.
pub fn script(point: &str, script: &str) -> String {
    format!("{point} = [\"/bin/sh\", \"-c\", '''{script}''']")
}

pub fn detail(outcome: HookOutcome) -> String {
    match outcome {
        HookOutcome::Failed { detail, .. } => detail,
        other => panic!("{other:?}"),
    }
}

pub fn launch() -> [Event; 2] {
    let began = Event::LaunchBegan { binary: "llama-server".into() };
    [began, Event::ServerSpawned { pid: 4242, start_ticks: 1, argv: [].into(), port: 8099 }]
}

pub fn ready() -> Event {
    Event::ReadyReached { via: ReadyVia::Stderr, startup_seconds: 1.0 }
}

pub fn exited(end: ProcessEnd) -> Event {
    Event::ServerExited { end, swept: 0 }
}

pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Waits until the process is gone whose id was written into `file`.
pub async fn is_gone(file: &Path) {
    let child = Pid::from_raw(read(file).trim().parse().expect("a process id"));
    let gone = || match std::fs::read_to_string(format!("/proc/{}/stat", child)) {
        // Killed, and not yet reaped by the process that adopted it.
        Ok(stat) => stat.contains(") Z "),
        Err(_) => kill(child, None).is_err(),
    };
    let began = Instant::now();
    while !gone() {
        assert!(began.elapsed() < Duration::from_secs(10), "it outlived its hook");
        tokio::task::yield_now().await;
    }
}
