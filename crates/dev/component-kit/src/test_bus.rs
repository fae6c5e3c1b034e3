//! A real bus on which one component runs while the test plays every other one.
//!
//! The test publishes events, owns the commands that the component sends, and awaits what the component publishes. Every
//! wait has a deadline; when it passes, the panic shows every event so far.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use llama_warden_bus::{
    Bus, Clock, CommandReceiver, CommandRouter, CommandSender, Delivery, EventDraft, Inbox, OutputLane, Publisher,
    ReceivedCommand, Subscription,
};
use llama_warden_component::{Component, Context, ContextParts, Ports};
use llama_warden_config::Fleet;
use llama_warden_events::{BootId, CommandSet, Envelope, Event, Seq, ServerId};
use llama_warden_state::Snapshot;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{card, configuration, fleet};

/// Longest wait of a test for something that must come.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The state directory of a component that is to have none: nothing can be written there.
const NO_FOLDER: &str = "/dev/null/state";

/// A bus with room for one component and a test around it.
#[derive(Debug)]
pub struct TestBus {
    bus: Bus,
    publisher: Publisher,
    router: CommandRouter,
    lane: OutputLane,
    cancel: CancellationToken,
    awaited: Subscription,
}

impl Default for TestBus {
    fn default() -> Self {
        Self::new()
    }
}

impl TestBus {
    /// A bus whose ring keeps 4096 events.
    pub fn new() -> Self {
        Self::keeping(4096)
    }

    /// A bus whose ring keeps `events`, to provoke gaps.
    pub fn keeping(events: usize) -> Self {
        let (bus, publisher) = Bus::start(BootId::from_random(1), events);
        Self {
            awaited: bus.subscribe("test"),
            router: CommandRouter::new(bus.clone()),
            bus,
            publisher,
            lane: OutputLane::default(),
            cancel: CancellationToken::new(),
        }
    }

    /// The bus.
    pub const fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Publishes events on the bus.
    pub const fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// The output lane.
    pub const fn lane(&self) -> &OutputLane {
        &self.lane
    }

    /// What a component is built from: the configuration that a file with this text has, and its servers.
    ///
    /// # Panics
    /// If the text is not a valid configuration.
    pub fn context(&self, text: &str) -> Context {
        Context::from(ContextParts { configuration: Arc::new(configuration(text)), ..self.parts(fleet(text)) })
    }

    /// The same without a configuration, for servers that the test changes.
    pub fn context_of(&self, fleet: watch::Receiver<Fleet>) -> Context {
        Context::from(ContextParts { fleet, ..self.parts(Fleet::default()) })
    }

    fn parts(&self, fleet: Fleet) -> ContextParts {
        ContextParts {
            configuration: Arc::new(configuration("")),
            fleet: watch::channel(fleet).1,
            bus: self.bus.clone(),
            lane: self.lane.clone(),
            state_dir: PathBuf::from(NO_FOLDER),
        }
    }

    /// The time base.
    pub const fn clock(&self) -> Clock {
        self.bus.clock()
    }

    /// Sends commands to the component.
    pub fn commands(&self) -> CommandSender {
        self.router.sender()
    }

    /// Makes the test the owner of a set of commands.
    pub fn own<C: CommandSet>(&mut self) -> CommandReceiver<C> {
        self.router.own("test").unwrap_or_else(|error| panic!("{error}"))
    }

    /// Ports for a component that the test drives by itself.
    pub fn ports<C: CommandSet>(&mut self, name: &'static str) -> Ports<C> {
        Ports {
            events: self.publisher.clone(),
            commands: self.router.sender(),
            inbox: Inbox::new(
                self.bus.subscribe(name),
                self.router.own(name).unwrap_or_else(|error| panic!("{error}")),
            ),
            clock: self.bus.clock(),
            cancel: self.cancel.child_token(),
        }
    }

    /// Runs a component until [`RunningComponent::end`].
    pub fn run<C: Component>(&mut self, component: C) -> RunningComponent<C::Error> {
        let ports = self.ports(C::NAME);
        RunningComponent { task: tokio::spawn(component.run(ports)), cancel: self.cancel.clone() }
    }

    /// Publishes an event and returns its number once everybody can see it.
    pub async fn publish(&self, event: EventDraft) -> Seq {
        self.publisher.publish_acked(event).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Configures a server with a plain card, so that events about it count.
    pub async fn configure(&self, server: &ServerId) -> Seq {
        self.publish(EventDraft::server(server.clone(), Event::ServerConfigured { card: card(server).into() })).await
    }

    /// The next event that `wanted` picks, among those not yet awaited.
    pub async fn wait_for(&mut self, wanted: impl Fn(&Event) -> bool) -> Arc<Envelope> {
        let found = tokio::time::timeout(PATIENCE, async {
            loop {
                match self.awaited.next().await {
                    Some(Delivery::Event(envelope)) if wanted(&envelope.event) => return Some(envelope),
                    Some(_) => {}
                    None => return None,
                }
            }
        });
        match found.await {
            Ok(Some(envelope)) => envelope,
            Ok(None) | Err(_) => panic!("the awaited event did not come; events so far:\n{}", self.log()),
        }
    }

    /// Waits until the snapshot is as `wanted` says.
    pub async fn see(&self, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut snapshots = self.bus.watch();
        let seen = tokio::time::timeout(PATIENCE, snapshots.wait_for(|snapshot| wanted(snapshot))).await;
        match seen {
            Ok(Ok(snapshot)) => snapshot.clone(),
            _ => panic!("the awaited state did not come; events so far:\n{}", self.log()),
        }
    }

    /// Every event that is kept, in order.
    pub fn history(&self) -> Vec<Arc<Envelope>> {
        let mut history = self.bus.subscribe_after("log", Seq::default());
        history.skip_forgotten();
        std::iter::from_fn(|| match history.try_next() {
            Some(Delivery::Event(envelope)) => Some(envelope),
            _ => None,
        })
        .collect()
    }

    /// Every event that is kept, one a line.
    pub fn log(&self) -> String {
        let line = |envelope: &Arc<Envelope>| format!("{} {:?} {:?}\n", envelope.seq, envelope.server, envelope.event);
        self.history().iter().map(line).collect()
    }
}

/// The next command, within [`PATIENCE`].
pub async fn next_command<C: CommandSet>(inbox: &mut CommandReceiver<C>) -> ReceivedCommand<C> {
    match tokio::time::timeout(PATIENCE, inbox.recv()).await {
        Ok(command) => command,
        Err(_) => panic!("the awaited command did not come"),
    }
}

/// A running component.
#[derive(Debug)]
pub struct RunningComponent<E> {
    task: JoinHandle<Result<(), E>>,
    cancel: CancellationToken,
}

impl<E: std::fmt::Debug> RunningComponent<E> {
    /// Cancels the component and checks that it ends well and soon: every component must.
    pub async fn end(self) {
        self.cancel.cancel();
        match tokio::time::timeout(PATIENCE, self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => panic!("the component failed: {error:?}"),
            Ok(Err(join)) => panic!("the component panicked: {join}"),
            Err(_) => panic!("the component did not end when it was cancelled"),
        }
    }

    /// Waits for the component to end by itself.
    pub async fn ended(self) -> Result<(), E> {
        match tokio::time::timeout(PATIENCE, self.task).await {
            Ok(Ok(result)) => result,
            Ok(Err(join)) => panic!("the component panicked: {join}"),
            Err(_) => panic!("the component did not end by itself"),
        }
    }
}
