//! The component on its bus, with servers that the test makes ready.

use std::time::Duration;

use llama_warden_bus::{BusClosed, EventDraft};
use llama_warden_component_kit::{self as component_kit, RunningComponent, TestBus, card};
use llama_warden_config::{Fleet, HealthSpec, ServerSpec};
use llama_warden_events::{Event, Incarnation, ReadyVia, ServerId};
use llama_warden_health::Health;
use tokio::sync::watch;

use super::fake::FakeProcess;

pub const FIRST: Incarnation = Incarnation::new(1);

/// Short enough for a test, long enough to see a process compute on a loaded machine.
pub fn terms() -> HealthSpec {
    let millis = Duration::from_millis;
    HealthSpec { interval: millis(100), timeout: millis(300), failures: 3, inference: None }
}

pub fn spec(id: &ServerId, health: HealthSpec) -> ServerSpec {
    let spec = component_kit::spec(id.as_str(), "");
    ServerSpec { health: health.into(), ..ServerSpec::clone(&spec) }
}

/// See the module.
pub struct HealthFixture {
    pub bus: TestBus,
    pub fleet: watch::Sender<Fleet>,
    running: Option<RunningComponent<BusClosed>>,
}

impl HealthFixture {
    /// With these servers configured; the component does not run yet.
    pub async fn of(bus: TestBus, specs: Vec<ServerSpec>) -> Self {
        for spec in &specs {
            let card = card(&spec.id);
            bus.publish(EventDraft::server(spec.id.clone(), Event::ServerConfigured { card: card.into() })).await;
        }
        Self { bus, fleet: watch::Sender::new(Fleet::new(specs)), running: None }
    }

    /// With one server on these terms; the component runs.
    pub async fn one(id: &ServerId, health: HealthSpec) -> Self {
        let mut fixture = Self::of(TestBus::new(), vec![spec(id, health)]).await;
        fixture.raise();
        fixture
    }

    pub fn raise(&mut self) {
        let component = Health::build(&self.bus.context_of(self.fleet.subscribe()));
        self.running = Some(self.bus.run(component));
    }

    pub async fn say(&self, id: &ServerId, event: Event) {
        self.bus.publish(EventDraft::incarnation(id.clone(), FIRST, event)).await;
    }

    /// Launches the server and makes it ready.
    pub async fn make_ready(&self, id: &ServerId, port: u16, process: &FakeProcess) {
        let (pid, start_ticks) = (process.pid(), process.start_ticks());
        self.say(id, Event::LaunchBegan { binary: "llama-server".into() }).await;
        self.say(id, Event::ServerSpawned { pid, start_ticks, argv: [].into(), port }).await;
        self.say(id, Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 0.1 }).await;
    }

    /// How many events of a kind there were.
    pub fn count(&self, kind: &str) -> u64 {
        self.bus.bus().watch().borrow().events.get(kind).copied().unwrap_or_default()
    }

    pub async fn end(self) {
        if let Some(running) = self.running {
            running.end().await;
        }
    }
}
