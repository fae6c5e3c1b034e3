//! The supervisor on a test bus, with a paused clock, a memory probe whose answers the test sets, and a configuration source
//! that the test can block.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use llama_warden_bus::{CommandReceiver, EventDraft};
use llama_warden_component_kit::{self as component_kit, RunningComponent, TestBus, next_command, server};
use llama_warden_config::{AdmissionPolicy, Fleet, ServerSpec};
use llama_warden_events::{
    Event, FailureReason, Incarnation, LaunchCommand, ProcessEnd, ReadyVia, RefusalReason, Refused, StopReason,
    SuperviseCommand, TerminateCommand,
};
use llama_warden_memory::{Available, Bound, Gpus, MemoryProbe, MemoryRequirement, Parts, Reading};
use llama_warden_supervisor::{
    Caution, Change, FleetSource, Resolved, RoutingPolicy, Supervisor, SupervisorError, SupervisorLimits,
    SupervisorSettings,
};
use tokio::sync::watch;

/// Estimates a server's memory from its port: port 8004 needs 4 GiB.
#[derive(Debug)]
struct TestMemoryProbe {
    /// The available memory that a reading reports, in GiB.
    available: AtomicU64,
    readings: AtomicUsize,
}

impl TestMemoryProbe {
    fn with(available: u64) -> Arc<Self> {
        Arc::new(Self { available: available.into(), readings: AtomicUsize::new(0) })
    }
}

impl MemoryProbe for TestMemoryProbe {
    fn estimate(&self, spec: &ServerSpec) -> Option<MemoryRequirement> {
        let weights = u64::from(spec.port - 8000) << 30;
        Some(MemoryRequirement { host: Parts { weights, ..Parts::default() }, ..MemoryRequirement::default() })
    }

    fn read(&self, _: &[u32]) -> Reading {
        self.readings.fetch_add(1, Ordering::SeqCst);
        let bytes = self.available.load(Ordering::SeqCst) << 30;
        let host = Some(Available { bytes, total: bytes, bound: Bound::Machine });
        Reading { host, gpus: Gpus::Absent, resident: BTreeMap::new() }
    }
}

fn fleet(servers: &[(&str, u16)]) -> Fleet {
    let table = |(id, port): &(&str, u16)| format!("[[servers]]\nid = \"{id}\"\nmodel = \"/m.gguf\"\nport = {port}\n");
    let tables: String = servers.iter().map(table).collect();
    component_kit::fleet(&format!("[restart]\npolicy = \"never\"\n{tables}"))
}

/// A running supervisor. The test owns the commands of the launcher and the terminator.
struct SupervisorFixture {
    bus: TestBus,
    launcher: CommandReceiver<LaunchCommand>,
    terminator: CommandReceiver<TerminateCommand>,
    supervisor: RunningComponent<SupervisorError>,
}

impl SupervisorFixture {
    fn new(memory: AdmissionPolicy, memory_probe: Arc<TestMemoryProbe>, fleet: Fleet, source: FleetSource) -> Self {
        let mut bus = TestBus::new();
        let (launcher, terminator) = (bus.own(), bus.own());
        let settings = SupervisorSettings {
            fleet: watch::channel(fleet).0,
            profiles: Vec::new(),
            source,
            limits: SupervisorLimits {
                shutdown: Duration::from_secs(30),
                starts: None,
                memory,
                routing: RoutingPolicy::default(),
            },
            router: None,
            seed: 1,
            adopted: Vec::new(),
            totals: Default::default(),
            memory_probe,
            state_dir: None,
        };
        let supervisor = bus.run(Supervisor::new(settings));
        Self { bus, launcher, terminator, supervisor }
    }

    async fn launched(&mut self) -> String {
        let request = next_command(&mut self.launcher).await;
        let LaunchCommand::LaunchServer { server, incarnation } = request.command.clone() else {
            panic!("{:?}", request.command)
        };
        request.accept(None);
        format!("{server}#{incarnation}")
    }

    async fn publish(&self, id: &str, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.bus.publish(EventDraft::incarnation(server(id), Incarnation::new(1), event)).await;
        }
    }

    async fn become_ready(&self, id: &str) {
        let spawned = Event::ServerSpawned { pid: 1, start_ticks: 1, argv: [].into(), port: 8001 };
        let ready = Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 1.0 };
        self.publish(id, [Event::LaunchBegan { binary: "x".into() }, spawned, ready]).await;
    }

    async fn publish_end(&self, id: &str) {
        let reason = StopReason::Requested;
        let exited = Event::ServerExited { end: ProcessEnd::Exited { code: 0 }, swept: 0 };
        let stopped = Event::ServerStopped { reason, forced: false, stop_seconds: 0.1 };
        self.publish(id, [Event::StopBegan { reason, grace_seconds: 1.0 }, exited, stopped]).await;
    }
}

/// A source for tests that do not change the configuration.
fn no_source() -> FleetSource {
    Arc::new(|_| panic!("nobody changes the configuration"))
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_does_not_fit_is_refused_with_an_event_and_leaves_the_others_alone() {
    let fleet = fleet(&[("a", 8004), ("b", 8009)]);
    let mut fixture = SupervisorFixture::new(AdmissionPolicy::Enforce, TestMemoryProbe::with(10), fleet, no_source());
    assert_eq!(fixture.launched().await, "a#1");
    let failed = fixture.bus.wait_for(|event| matches!(event, Event::ServerFailed { .. })).await;
    assert!(matches!(&failed.event, Event::ServerFailed { reason: FailureReason::Refused, .. }), "{failed:?}");
    assert_eq!((failed.server.clone(), failed.incarnation), (Some(server("b")), Some(Incarnation::new(1))));
    let seen = fixture.bus.see(|snapshot| snapshot.servers["b"].failure.is_some()).await;
    assert!(seen.servers["b"].memory.is_some_and(|memory| memory.weights_bytes == 9 << 30));
    assert_eq!(seen.anomalies, 0);
    fixture.supervisor.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_is_held_comes_when_the_end_that_it_waits_for_does() {
    let memory_probe = TestMemoryProbe::with(10);
    let fleet = fleet(&[("a", 8006), ("b", 8007)]);
    let mut fixture = SupervisorFixture::new(AdmissionPolicy::Enforce, Arc::clone(&memory_probe), fleet, no_source());
    assert_eq!(fixture.launched().await, "a#1");
    // Before `a` is ready: from then on the readings of this probe have room for both.
    fixture.bus.wait_for(|event| matches!(event, Event::ServerFailed { .. })).await;
    fixture.become_ready("a").await;
    memory_probe.available.store(4, Ordering::SeqCst);
    let commands = fixture.bus.commands();
    commands
        .send(SuperviseCommand::StopServer { server: server("a"), grace: None, force: false })
        .await
        .expect("accepted");
    next_command(&mut fixture.terminator).await.accept(None);
    commands.send(SuperviseCommand::StartServer { server: server("b") }).await.expect("accepted");
    fixture.bus.wait_for(|event| matches!(event, Event::LaunchHeld { .. })).await;
    let seen = fixture.bus.see(|snapshot| snapshot.servers["b"].held.is_some()).await;
    assert_eq!(seen.anomalies, 0);
    memory_probe.available.store(10, Ordering::SeqCst);
    fixture.publish_end("a").await;
    assert_eq!(fixture.launched().await, "b#2", "its first launch was refused");
    fixture.bus.wait_for(|event| matches!(event, Event::LaunchReleased)).await;
    fixture.supervisor.end().await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_again_while_nobody_waits() {
    let fleet = fleet(&[("a", 8001)]);
    let memory_probe = TestMemoryProbe::with(10);
    let mut fixture = SupervisorFixture::new(AdmissionPolicy::Enforce, Arc::clone(&memory_probe), fleet, no_source());
    assert_eq!(fixture.launched().await, "a#1");
    fixture.become_ready("a").await;
    tokio::time::advance(Duration::from_secs(3600)).await;
    fixture.publish_end("a").await;
    assert_eq!(memory_probe.readings.load(Ordering::SeqCst), 1);
    fixture.supervisor.end().await;
}

/// A source that reports each call, and returns once the test releases it.
fn blocked_source(resolved: Resolved) -> (FleetSource, tokio::sync::mpsc::UnboundedReceiver<()>, mpsc::Sender<()>) {
    let (asked, questions) = tokio::sync::mpsc::unbounded_channel();
    let (release, releases) = mpsc::channel();
    let releases = Mutex::new(releases);
    let source = move |_: &_| {
        asked.send(()).expect("the test listens");
        // An error means that the test has ended, and with it the reader of the result.
        let _ = releases.lock().expect("one at a time").recv();
        Ok(resolved.clone())
    };
    (Arc::new(source), questions, release)
}

/// A supervisor with one ready server and a blocked source.
async fn fixture_with_blocked_source() -> (SupervisorFixture, tokio::sync::mpsc::UnboundedReceiver<()>, mpsc::Sender<()>)
{
    let servers = fleet(&[("a", 8001)]);
    let (source, questions, release) = blocked_source(Resolved { fleet: servers.clone(), ..Resolved::default() });
    let mut fixture = SupervisorFixture::new(AdmissionPolicy::Off, TestMemoryProbe::with(1), servers, source);
    assert_eq!(fixture.launched().await, "a#1");
    fixture.become_ready("a").await;
    (fixture, questions, release)
}

fn reload() -> SuperviseCommand {
    SuperviseCommand::Reload { trigger: "test".to_owned(), force: false }
}

/// A source that gives these answers to reloads, one after the other, and counts them.
fn scripted_source(answers: Vec<Result<Resolved, Refused>>) -> (FleetSource, Arc<AtomicUsize>) {
    let looks = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&looks);
    let source = move |_: &_| answers[counter.fetch_add(1, Ordering::SeqCst)].clone();
    (Arc::new(source), looks)
}

fn doubtful() -> Result<Resolved, Refused> {
    Err(Refused::new(RefusalReason::DoubtfulConfiguration, "it would stop everything"))
}

#[tokio::test(start_paused = true)]
async fn a_doubtful_configuration_is_refused_at_the_second_look_and_not_before() {
    let servers = fleet(&[("a", 8001)]);
    let (source, looks) = scripted_source(vec![doubtful(), doubtful()]);
    let mut fixture = SupervisorFixture::new(AdmissionPolicy::Off, TestMemoryProbe::with(1), servers, source);
    assert_eq!(fixture.launched().await, "a#1");
    fixture.become_ready("a").await;
    let refused = fixture.bus.commands().send(reload()).await.expect_err("twice in doubt");
    assert_eq!(refused.reason, RefusalReason::DoubtfulConfiguration);
    assert_eq!(looks.load(Ordering::SeqCst), 2);
    let event = fixture.bus.wait_for(|event| matches!(event, Event::ConfigurationRefused { .. })).await;
    assert!(matches!(&event.event, Event::ConfigurationRefused { detail, .. } if detail.contains("reload --force")));
    fixture.supervisor.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_configuration_that_is_complete_by_the_second_look_is_loaded() {
    let servers = fleet(&[("a", 8001)]);
    let whole = || Ok(Resolved { fleet: fleet(&[("a", 8001), ("b", 8002)]), ..Resolved::default() });
    let (source, looks) = scripted_source(vec![doubtful(), whole(), doubtful(), whole()]);
    let mut fixture = SupervisorFixture::new(AdmissionPolicy::Off, TestMemoryProbe::with(1), servers, source);
    assert_eq!(fixture.launched().await, "a#1");
    fixture.become_ready("a").await;
    let commands = fixture.bus.commands();
    commands.send(reload()).await.expect("whole by then");
    assert_eq!(fixture.launched().await, "b#1");
    // A later reload that finds it whole answers the one that waits for its second look, too.
    let waiting = commands.post(reload());
    while looks.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    commands.send(reload()).await.expect("whole by now");
    waiting.await.expect("answered by the other");
    assert_eq!(looks.load(Ordering::SeqCst), 4);
    let seen = fixture.bus.see(|snapshot| snapshot.events.get("ConfigurationReloaded") == Some(&3)).await;
    assert_eq!((seen.events.get("ProfileActivated"), seen.events.get("ConfigurationRefused")), (None, None));
    fixture.supervisor.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_forced_reload_asks_its_source_to_trust_the_configuration() {
    let servers = fleet(&[("a", 8001)]);
    let forced = |change: &Change| matches!(change, Change::Reload(Caution::Forced));
    let source: FleetSource = Arc::new(move |change| if forced(change) { Ok(Resolved::default()) } else { doubtful() });
    let mut fixture = SupervisorFixture::new(AdmissionPolicy::Off, TestMemoryProbe::with(1), servers, source);
    assert_eq!(fixture.launched().await, "a#1");
    fixture.become_ready("a").await;
    let commands = fixture.bus.commands();
    let waiting = commands.post(reload());
    commands.send(SuperviseCommand::Reload { trigger: "test".to_owned(), force: true }).await.expect("forced");
    let stopped = next_command(&mut fixture.terminator).await;
    assert!(matches!(&stopped.command, TerminateCommand::TerminateServer { server, .. } if server.as_str() == "a"));
    stopped.accept(None);
    waiting.await.expect("the other applied what it doubted");
    fixture.supervisor.end().await;
}

#[tokio::test]
async fn a_reload_that_takes_long_delays_neither_a_command_nor_a_shutdown() {
    let (mut fixture, mut questions, release) = fixture_with_blocked_source().await;
    let commands = fixture.bus.commands();
    let pending = commands.post(reload());
    questions.recv().await.expect("it is resolved");
    commands.send(SuperviseCommand::StartServer { server: server("a") }).await.expect("accepted");
    let shut_down = SuperviseCommand::ShutDown { trigger: "test".to_owned(), force: false };
    commands.send(shut_down).await.expect("accepted");
    fixture.bus.wait_for(|event| matches!(event, Event::DaemonStopping { .. })).await;
    let refused = pending.await.expect_err("nothing changes any more");
    assert_eq!(refused.reason, RefusalReason::ShuttingDown);
    release.send(()).expect("it waits");
    fixture.supervisor.end().await;
}

#[tokio::test]
async fn reloads_that_wait_are_resolved_together_and_each_is_answered() {
    let (fixture, mut questions, release) = fixture_with_blocked_source().await;
    let commands = fixture.bus.commands();
    let first = commands.post(reload());
    questions.recv().await.expect("it is resolved");
    let others = [commands.post(reload()), commands.post(reload())];
    // Commands are received in order, so that both reloads wait once this one is accepted.
    commands.send(SuperviseCommand::StartServer { server: server("a") }).await.expect("accepted");
    release.send(()).expect("it waits");
    first.await.expect("accepted");
    questions.recv().await.expect("the files may have changed since the first read them");
    release.send(()).expect("it waits");
    for other in others {
        other.await.expect("accepted");
    }
    assert!(questions.try_recv().is_err(), "two were resolved at once");
    let reloaded = |snapshot: &llama_warden_state::Snapshot| snapshot.events.get("ConfigurationReloaded").copied();
    fixture.bus.see(|snapshot| reloaded(snapshot) == Some(3)).await;
    fixture.supervisor.end().await;
}
