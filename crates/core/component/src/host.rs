//! The host: starts components, joins them, and turns the failure of one into an orderly end of all.

use std::any::Any;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use llama_warden_bus::{
    Bus, CommandRouter, CommandSender, CommandSetId, EventDraft, Inbox, MAX_EXTENSION_EVENTS_PER_SECOND, OutputLane,
    OwnerError, Publisher,
};
use llama_warden_config::ConfigProblem;
use llama_warden_events::{BootId, Event, SuperviseCommand};
use llama_warden_state::DaemonPhase;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{Component, Ports};

/// The settings of a host.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// The id of this run.
    pub boot: BootId,
    /// How many events the ring keeps.
    pub events_kept: usize,
    /// Longest time from a failed component to the end.
    pub drain: Duration,
    /// Longest time that a cancelled component may take to end.
    pub cancel: Duration,
}

/// A component ended before its time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("component `{component}` failed: {error}")]
pub struct HostError {
    /// Its name.
    pub component: &'static str,
    /// Its error or the message of its panic.
    pub error: String,
}

/// A daemon under composition.
#[derive(Debug)]
pub struct Host {
    settings: HostSettings,
    bus: Bus,
    publisher: Publisher,
    router: CommandRouter,
    lane: OutputLane,
    cancel: CancellationToken,
    tasks: JoinSet<Result<(), String>>,
    members: Vec<AddedComponent>,
    gate: CancellationToken,
}

/// A component that was added.
#[derive(Debug)]
struct AddedComponent {
    task: Id,
    name: &'static str,
    /// The path of its type, to distinguish two components of one name in the error.
    type_name: &'static str,
    sends: &'static [CommandSetId],
}

/// The components do not fit together.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CompositionError {
    /// Two components have one name.
    #[error("two components are called `{name}`: {first} and {second}; rename one of them")]
    SameName {
        /// The name.
        name: &'static str,
        /// The type of the one that was added first.
        first: &'static str,
        /// The type of the other.
        second: &'static str,
    },
    /// A command set has no owner, or two.
    #[error(transparent)]
    Owner(#[from] OwnerError),
    /// A component cannot be built.
    #[error("component `{name}` cannot be built: {error}")]
    NotBuilt {
        /// The component.
        name: &'static str,
        /// Its error, or the message of its panic.
        error: String,
        /// Where in the configuration its error is, if it says so.
        place: Option<Box<ConfigProblem>>,
    },
}

/// What a function that builds a component may return: the component, or the component or why there is none.
pub trait Built {
    /// The component.
    type Component: Component;
    /// Why there may be none.
    type Error: std::error::Error + 'static;

    /// The component.
    ///
    /// # Errors
    /// There is none.
    fn built(self) -> Result<Self::Component, Self::Error>;
}

impl<C: Component> Built for C {
    type Component = Self;
    type Error = Infallible;

    fn built(self) -> Result<Self, Infallible> {
        Ok(self)
    }
}

impl<C: Component, E: std::error::Error + 'static> Built for Result<C, E> {
    type Component = C;
    type Error = E;

    fn built(self) -> Self {
        self
    }
}

impl Host {
    /// A host with a bus and no component.
    pub fn new(settings: HostSettings) -> Self {
        let (bus, publisher) = Bus::start(settings.boot, settings.events_kept);
        Self {
            router: CommandRouter::new(bus.clone()),
            bus,
            publisher,
            settings,
            lane: OutputLane::default(),
            cancel: CancellationToken::new(),
            tasks: JoinSet::new(),
            members: Vec::new(),
            gate: CancellationToken::new(),
        }
    }

    /// Events and snapshots.
    pub const fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Publishes events.
    pub const fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// The output lane.
    pub const fn lane(&self) -> &OutputLane {
        &self.lane
    }

    /// A sender to every owner of commands.
    pub fn commands(&self) -> CommandSender {
        self.router.sender()
    }

    /// Adds a component. It begins to run when the host starts.
    ///
    /// # Errors
    /// If another component has its name, or owns its commands.
    pub fn add<C: Component>(&mut self, component: C) -> Result<(), CompositionError> {
        let (name, type_name) = (C::NAME, std::any::type_name::<C>());
        if let Some(first) = self.members.iter().find(|member| member.name == name) {
            return Err(CompositionError::SameName { name, first: first.type_name, second: type_name });
        }
        let events = self.publisher.of_component();
        let ports = Ports {
            events: events.clone(),
            commands: self.router.sender(),
            inbox: Inbox::new(self.bus.subscribe(name), self.router.own::<C::Command>(name)?),
            clock: self.bus.clock(),
            cancel: self.cancel.child_token(),
        };
        let gate = self.gate.clone();
        let handle = self.tasks.spawn(async move {
            gate.cancelled_owned().await;
            let ended = tokio::select! {
                ended = component.run(ports) => ended.map_err(|error| chain(&error)),
                () = events.flooded() => Ok(()),
            };
            // What it made of an event that was not taken any more says less.
            if events.has_flooded() { Err(flood_text()) } else { ended }
        });
        self.members.push(AddedComponent { task: handle.id(), name, type_name, sends: C::SENDS });
        Ok(())
    }

    /// As [`Self::add`], where there is a component.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn add_any<C: Component>(&mut self, component: Option<C>) -> Result<(), CompositionError> {
        component.map_or(Ok(()), |component| self.add(component))
    }

    /// Builds a component that is compiled in, and adds it.
    ///
    /// # Errors
    /// If `build` fails or panics, and as [`Self::add`].
    pub fn add_built<B: Built>(&mut self, build: impl FnOnce() -> B) -> Result<(), CompositionError> {
        let name = B::Component::NAME;
        // Nothing of the host is within `build`, so that a panic leaves the host as it was.
        let built = catch_unwind(AssertUnwindSafe(|| build().built()));
        let panicked = |payload: Box<dyn Any + Send>| {
            let error = format!("{}; the lines above say where", panic_text(payload.as_ref()));
            CompositionError::NotBuilt { name, error, place: None }
        };
        let failed =
            |error: B::Error| CompositionError::NotBuilt { name, error: chain(&error), place: config_problem(&error) };
        self.add(built.map_err(panicked)?.map_err(failed)?)
    }

    /// The names of the components that were added so far, in that order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.members.iter().map(|member| member.name)
    }

    /// Checks that each command set that is sent has an owner.
    ///
    /// # Errors
    /// If a component sends commands that nobody owns. The host itself sends the shutdown.
    pub fn check(&self) -> Result<(), CompositionError> {
        self.router.check("host", &[CommandSetId::of::<SuperviseCommand>()])?;
        for member in &self.members {
            self.router.check(member.name, member.sends)?;
        }
        Ok(())
    }

    /// Checks the composition and lets every component run.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn start(self) -> Result<RunningHost, CompositionError> {
        self.check()?;
        self.gate.cancel();
        Ok(RunningHost(self))
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct RunningHost(Host);

impl RunningHost {
    /// Waits for the end: `DaemonStopped`, or the failure of a component, which starts a drain.
    ///
    /// However it ends, every component is cancelled and joined when this returns.
    ///
    /// # Errors
    /// The first failure of a component, also if it came while the components ended.
    pub async fn join(mut self) -> Result<(), HostError> {
        let mut snapshots = self.0.bus.watch();
        let failure = loop {
            tokio::select! {
                // Once no server is left, a component that ends does not end early.
                biased;
                stopped = snapshots.wait_for(|snapshot| snapshot.daemon.phase == DaemonPhase::Stopped) => {
                    // The sequencer lives as long as this host's publisher, so an error cannot come.
                    break stopped.err().map(|_| HostError { component: "bus", error: "ended early".to_owned() });
                }
                Some(ended) = self.0.tasks.join_next_with_id() => {
                    if let Some(failure) = self.failure_of(ended) {
                        self.drain(&failure).await;
                        break Some(failure);
                    }
                }
            }
        };
        let late = self.end_all().await;
        failure.or(late).map_or(Ok(()), Err)
    }

    /// Cancels every component and joins it within the time for that. Returns the first failure meanwhile; nobody reads events any
    /// more, so that failures are logged here.
    async fn end_all(&mut self) -> Option<HostError> {
        self.0.cancel.cancel();
        let mut first = None;
        let deadline = tokio::time::Instant::now() + self.0.settings.cancel;
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.0.tasks.join_next_with_id()).await {
            if let Some(failure) = self.failure_of(ended) {
                tracing::error!(component = failure.component, error = %failure.error, "component failed at its end");
                first.get_or_insert(failure);
            }
        }
        if !self.0.members.is_empty() {
            let components: Vec<_> = self.0.members.iter().map(|member| member.name).collect();
            tracing::warn!(components = components.join(", "), "components did not end in time and are dropped");
        }
        first
    }

    fn failure_of(&mut self, ended: Result<(Id, Result<(), String>), JoinError>) -> Option<HostError> {
        let (id, ended) = match ended {
            Ok((id, ended)) => (id, ended),
            Err(join) => (join.id(), Err(join_text(join))),
        };
        let index = self.0.members.iter().position(|member| member.task == id);
        let component = index.map_or("unknown", |index| self.0.members.remove(index).name);
        let error = match ended {
            Ok(()) if self.0.cancel.is_cancelled() => {
                tracing::debug!(component, "component ended");
                return None;
            }
            Ok(()) => "ended by itself".to_owned(),
            Err(error) => error,
        };
        Some(HostError { component, error })
    }

    /// Publishes the failure and asks the supervisor to stop every server. The failed component may be the one that would have to
    /// do it, so that asking is bounded as the stop is; the end of the launcher kills the servers that are left.
    async fn drain(&self, failure: &HostError) {
        if tokio::time::timeout(self.0.settings.drain, self.stop_fleet(failure)).await.is_err() {
            tracing::warn!("servers were not stopped within the drain; they are killed");
        }
    }

    async fn stop_fleet(&self, failure: &HostError) {
        let event = Event::ComponentFailed { component: failure.component.to_owned(), error: failure.error.clone() };
        let published = self.0.publisher.publish(EventDraft::daemon(event)).await;
        let trigger = format!("component {} failed", failure.component);
        let asked = self.0.commands().send(SuperviseCommand::ShutDown { trigger, force: false }).await;
        if published.is_err() || asked.is_err() {
            return;
        }
        let mut snapshots = self.0.bus.watch();
        // The sequencer lives as long as this host's publisher, so an error cannot come.
        let _ = snapshots.wait_for(|snapshot| snapshot.daemon.phase == DaemonPhase::Stopped).await;
    }
}

fn flood_text() -> String {
    format!("published more than {MAX_EXTENSION_EVENTS_PER_SECOND} events of its own within a second")
}

fn join_text(join: JoinError) -> String {
    match join.try_into_panic() {
        Ok(payload) => panic_text(payload.as_ref()),
        Err(join) => join.to_string(),
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}

/// The problem of the configuration that an error is, or comes from.
fn config_problem(error: &(dyn std::error::Error + 'static)) -> Option<Box<ConfigProblem>> {
    let mut next = Some(error);
    while let Some(error) = next {
        let boxed = error.downcast_ref::<Box<ConfigProblem>>().cloned();
        if let Some(problem) = boxed.or_else(|| error.downcast_ref::<ConfigProblem>().cloned().map(Box::new)) {
            return Some(problem);
        }
        next = error.source();
    }
    None
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
