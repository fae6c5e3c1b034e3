//! The host: starts components, joins them, and turns the failure of one into an orderly end of all.

use std::time::Duration;

use llama_warden_bus::{
    Bus, CommandRouter, CommandSender, CommandSetId, EventDraft, Inbox, OutputLane, OwnerError, Publisher,
};
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
    members: Vec<Member>,
    gate: CancellationToken,
}

/// A component that was added.
#[derive(Debug)]
struct Member {
    task: Id,
    name: &'static str,
    /// The path of its type, to distinguish two components of one name in the error.
    type_name: &'static str,
    sends: &'static [CommandSetId],
}

/// The components do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
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
        let ports = Ports {
            events: self.publisher.clone(),
            commands: self.router.sender(),
            inbox: Inbox::new(self.bus.subscribe(name), self.router.own::<C::Command>(name)?),
            clock: self.bus.clock(),
            cancel: self.cancel.child_token(),
        };
        let gate = self.gate.clone();
        let handle = self.tasks.spawn(async move {
            gate.cancelled_owned().await;
            component.run(ports).await.map_err(|error| chain(&error))
        });
        self.members.push(Member { task: handle.id(), name, type_name, sends: C::SENDS });
        Ok(())
    }

    /// The names of the components that were added so far, in that order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.members.iter().map(|member| member.name)
    }

    /// Checks the composition and lets every component run.
    ///
    /// # Errors
    /// If a component sends commands that nobody owns. The host itself sends the shutdown.
    pub fn start(self) -> Result<RunningHost, CompositionError> {
        self.router.check("host", &[CommandSetId::of::<SuperviseCommand>()])?;
        for member in &self.members {
            self.router.check(member.name, member.sends)?;
        }
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
    pub async fn join(mut self) -> Result<(), HostError> {
        let mut snapshots = self.0.bus.watch();
        let failure = loop {
            tokio::select! {
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
        self.0.cancel.cancel();
        let joined = async { while self.0.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.0.settings.cancel, joined).await.is_err() {
            tracing::warn!("components did not end in time and are dropped");
        }
        match failure {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    fn failure_of(&self, ended: Result<(Id, Result<(), String>), JoinError>) -> Option<HostError> {
        let (id, error) = match ended {
            Ok((id, Ok(()))) if self.0.cancel.is_cancelled() => {
                tracing::debug!(component = self.name(id), "component ended");
                return None;
            }
            Ok((id, Ok(()))) => (id, "ended by itself".to_owned()),
            Ok((id, Err(error))) => (id, error),
            Err(join) => (join.id(), panic_text(join)),
        };
        Some(HostError { component: self.name(id), error })
    }

    fn name(&self, id: Id) -> &'static str {
        self.0.members.iter().find(|member| member.task == id).map_or("unknown", |member| member.name)
    }

    /// Publishes the failure and asks the supervisor to stop every server. The failed component may be the one that would have to
    /// do it, so the wait is bounded; the end of the launcher kills the servers that are left.
    async fn drain(&self, failure: &HostError) {
        let event = Event::ComponentFailed { component: failure.component.to_owned(), error: failure.error.clone() };
        let published = self.0.publisher.publish(EventDraft::daemon(event)).await;
        let trigger = format!("component {} failed", failure.component);
        let asked = self.0.commands().send(SuperviseCommand::ShutDown { trigger, force: false }).await;
        if published.is_err() || asked.is_err() {
            return;
        }
        let mut snapshots = self.0.bus.watch();
        let stopped = snapshots.wait_for(|snapshot| snapshot.daemon.phase == DaemonPhase::Stopped);
        if tokio::time::timeout(self.0.settings.drain, stopped).await.is_err() {
            tracing::warn!("servers were not stopped within the drain; they are killed");
        }
    }
}

fn panic_text(join: JoinError) -> String {
    match join.try_into_panic() {
        Ok(payload) => {
            let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
            format!("panicked: {}", text.as_deref().unwrap_or("without a message"))
        }
        Err(join) => join.to_string(),
    }
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
