//! The latest launch of every server, for every component that follows launches.
//!
//! Fed with events or with the snapshot of a gap, a [`LaunchTracker`] yields the same [`Transition`]s, so that a component has no
//! code for gaps of its own. Invariants: transitions of one launch come in the order of its life, each at most once; those of a
//! former launch come before those of its successor; after [`Transition::Ended`] a launch yields nothing more, and an event about
//! a launch that is not the latest yields nothing at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use llama_warden_bus::Delivery;
use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_events::{
    Envelope, Event, FailureReason, HookOutcome, HookPoint, Incarnation, ProcessEnd, ReadyVia, Seq, ServerId,
    StopReason, Uptime,
};
use llama_warden_state::{Phase, ServerRecord, Snapshot};
use tokio::sync::watch;

/// The latest launch of every server, each with a component's own state `T`.
#[derive(Debug)]
pub struct LaunchTracker<T> {
    fleet: watch::Receiver<Fleet>,
    launches: BTreeMap<ServerId, TrackedLaunch<T>>,
    /// The last launch of each server that was removed: a command that names it comes too late.
    removed: BTreeMap<ServerId, Incarnation>,
}

/// What is known of a launch.
#[derive(Debug, Clone, Default)]
pub struct TrackedLaunch<T> {
    /// Its number.
    pub incarnation: Incarnation,
    /// The specification that was in force when it began. `None` if the server was not configured then.
    pub spec: Option<Arc<ServerSpec>>,
    /// Its process, from `ServerSpawned` on.
    pub process: Option<LaunchedProcess>,
    /// Whether it was or is ready.
    pub readiness: LaunchReadiness,
    /// Why it is being stopped.
    pub stop: Option<StopReason>,
    /// Why it failed.
    pub failure: Option<FailureReason>,
    /// Whether it has ended: its process was reaped, or it failed before it had one.
    pub is_over: bool,
    /// Whether an event or a snapshot has named it, not only a command.
    has_begun: bool,
    /// The awaited hooks that have completed, so that a gap does not report them again.
    completed: [bool; 2],
    /// What the component keeps for it.
    pub state: T,
}

/// The process of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaunchedProcess {
    /// Its process id, also the id of its process group.
    pub pid: u32,
    /// Its start time in clock ticks since the machine booted.
    pub start_ticks: u64,
    /// The port that it was given.
    pub port: u16,
    /// When it was spawned.
    pub spawned: Uptime,
}

/// Whether a launch was ready, and whether it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LaunchReadiness {
    /// It has not been ready yet.
    #[default]
    NotYet,
    /// It is ready.
    Ready,
    /// It was ready and answers no more.
    Lost,
}

/// A step in the life of a launch, in order.
#[derive(Debug, Clone)]
pub struct LaunchChange<T> {
    /// The server.
    pub server: ServerId,
    /// The launch.
    pub incarnation: Incarnation,
    /// The event that says so; `None` where it was missed and a snapshot says so.
    pub cause: Option<Seq>,
    /// When it was published; for a missed one, the time of the snapshot.
    pub at: Uptime,
    /// The step.
    pub transition: Transition<T>,
}

/// What happened to a launch.
#[derive(Debug, Clone)]
pub enum Transition<T> {
    /// It began.
    Began,
    /// Its process exists.
    Spawned(LaunchedProcess),
    /// It became ready.
    BecameReady(ReadyVia),
    /// It no longer answers as ready.
    ReadyLost,
    /// It answers as ready again.
    ReadyRegained,
    /// A command that it waits for (`pre-start`, `pre-stop`) has ended.
    HookCompleted(HookPoint, HookOutcome),
    /// Its stop began.
    StopBegan(StopReason),
    /// It failed; if it has a process, a stop follows.
    Failed(FailureReason),
    /// It is over; its tracked state is handed out.
    Ended {
        /// How its process ended; `None` if it had none, or if that was missed.
        end: Option<ProcessEnd>,
        /// The launch as it was at its end.
        launch: Box<TrackedLaunch<T>>,
    },
    /// Its server is no longer configured.
    Removed,
}

impl<T: Default> LaunchTracker<T> {
    /// A tracker that knows no launch and pins specifications from `fleet`.
    pub const fn new(fleet: watch::Receiver<Fleet>) -> Self {
        Self { fleet, launches: BTreeMap::new(), removed: BTreeMap::new() }
    }

    /// The latest launch of a server.
    pub fn get(&self, server: &ServerId) -> Option<&TrackedLaunch<T>> {
        self.launches.get(server)
    }

    /// This launch of a server, if it is the latest.
    pub fn launch_mut(&mut self, server: &ServerId, incarnation: Incarnation) -> Option<&mut TrackedLaunch<T>> {
        self.launches.get_mut(server).filter(|launch| launch.incarnation == incarnation)
    }

    /// Every latest launch, by server.
    pub fn iter(&self) -> impl Iterator<Item = (&ServerId, &TrackedLaunch<T>)> {
        self.launches.iter()
    }

    /// Every latest launch, by server.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&ServerId, &mut TrackedLaunch<T>)> {
        self.launches.iter_mut()
    }

    /// The specification of a server that is configured now, else the one that its latest launch began with.
    pub fn spec(&self, server: &ServerId) -> Option<Arc<ServerSpec>> {
        let configured = self.configured(server);
        configured.or_else(|| self.launches.get(server).and_then(|launch| launch.spec.clone()))
    }

    /// The configuration in force.
    pub fn fleet(&self) -> Fleet {
        self.fleet.borrow().clone()
    }

    /// The specification of a server that is configured now.
    pub fn configured(&self, server: &ServerId) -> Option<Arc<ServerSpec>> {
        self.fleet.borrow().get(server.as_str()).cloned()
    }

    /// The launch that a command names. Its sender may know it before `LaunchBegan` is published, so a newer launch than the
    /// tracked one is tracked from now on. `None` if the launch is over, or older than the latest.
    pub fn track(&mut self, server: &ServerId, incarnation: Incarnation) -> Option<&mut TrackedLaunch<T>> {
        let known = self.launches.get(server).map(|known| known.incarnation);
        if known.max(self.removed.get(server).copied()).is_none_or(|known| known < incarnation) {
            let spec = self.configured(server);
            self.launches.insert(server.clone(), TrackedLaunch::new(incarnation, spec));
        }
        self.launch_mut(server, incarnation).filter(|launch| !launch.is_over)
    }

    /// What an event or a gap means for launches.
    pub fn on_event(&mut self, delivery: &Delivery) -> Vec<LaunchChange<T>> {
        match delivery {
            Delivery::Event(envelope) => self.on_envelope(envelope),
            Delivery::Gap { snapshot, .. } => self.on_snapshot(snapshot),
        }
    }

    fn on_envelope(&mut self, envelope: &Envelope) -> Vec<LaunchChange<T>> {
        let Some(server) = &envelope.server else { return Vec::new() };
        let mut changes = Changes { server, cause: Some(envelope.seq), at: envelope.elapsed, list: Vec::new() };
        if let Event::ServerRemoved = envelope.event {
            self.remove(&mut changes);
            return changes.list;
        }
        let Some(incarnation) = envelope.incarnation else { return Vec::new() };
        if let Event::LaunchBegan { .. } = envelope.event {
            self.begin(&mut changes, incarnation);
        }
        let Some(launch) = self.launch_mut(server, incarnation).filter(|launch| !launch.is_over) else {
            return changes.list;
        };
        match &envelope.event {
            Event::ServerSpawned { pid, start_ticks, port, .. } => {
                let (pid, start_ticks, port) = (*pid, *start_ticks, *port);
                launch.spawn(&mut changes, LaunchedProcess { pid, start_ticks, port, spawned: envelope.elapsed });
            }
            Event::ReadyReached { via, .. } => launch.set_readiness(&mut changes, LaunchReadiness::Ready, Some(*via)),
            Event::ReadyLost { .. } => launch.set_readiness(&mut changes, LaunchReadiness::Lost, None),
            Event::ReadyRegained => launch.set_readiness(&mut changes, LaunchReadiness::Ready, None),
            Event::HookCompleted { hook, outcome, .. } => launch.complete_hook(&mut changes, *hook, outcome),
            Event::StopBegan { reason, .. } => launch.set_stop(&mut changes, *reason),
            Event::ServerFailed { reason, .. } => {
                launch.set_failure(&mut changes, *reason);
                // Without a process, the failure is the last event of the launch.
                if launch.process.is_none() {
                    changes.end(launch, None);
                }
            }
            Event::ServerExited { end, .. } => changes.end(launch, Some(*end)),
            _ => {}
        }
        changes.list
    }

    /// Makes up for missed events. What a snapshot no longer says, such as the end of a launch that has a successor already, is
    /// reported without details.
    pub fn on_snapshot(&mut self, snapshot: &Snapshot) -> Vec<LaunchChange<T>> {
        let mut list = Vec::new();
        let removed: Vec<_> =
            self.launches.keys().filter(|server| !snapshot.servers.contains_key(*server)).cloned().collect();
        for server in removed {
            let mut changes = Changes { server: &server, cause: None, at: snapshot.elapsed, list };
            self.remove(&mut changes);
            list = changes.list;
        }
        for (server, record) in &snapshot.servers {
            let mut changes = Changes { server, cause: None, at: snapshot.elapsed, list };
            self.on_record(&mut changes, record);
            list = changes.list;
        }
        list
    }

    fn on_record(&mut self, changes: &mut Changes<'_, T>, record: &ServerRecord) {
        let server = changes.server;
        if let Some(known) = self.launches.get(server).filter(|known| known.incarnation > record.incarnation) {
            // A launch that a command named may be newer than the snapshot. One that has begun is not: its server was removed, and
            // configured again.
            if !known.has_begun {
                return;
            }
            self.remove(changes);
        }
        if record.incarnation == Incarnation::default() {
            return;
        }
        self.begin(changes, record.incarnation);
        let Some(launch) = self.launches.get_mut(server).filter(|launch| !launch.is_over) else { return };
        let is_over = !record.is_running() && !matches!(record.phase, Phase::Launching | Phase::Stopping { .. });
        if let Some(process) = &record.process {
            let (pid, start_ticks, port) = (process.pid, process.start_ticks, process.port);
            launch.spawn(changes, LaunchedProcess { pid, start_ticks, port, spawned: process.spawned });
        }
        if let Some(ready) = record.ready {
            if is_over {
                // Nobody acts on it any more, but whether it was ready says how it ended.
                launch.readiness = LaunchReadiness::Lost;
            } else {
                launch.set_readiness(changes, LaunchReadiness::Ready, Some(ready.via));
                if let Phase::Unready { .. } = record.phase {
                    launch.set_readiness(changes, LaunchReadiness::Lost, None);
                }
            }
        }
        for (hook, outcome) in &record.hooks {
            launch.complete_hook(changes, *hook, outcome);
        }
        if let Some(stop) = record.stop {
            launch.set_stop(changes, stop.reason);
        }
        if let Some(failure) = &record.failure {
            launch.set_failure(changes, failure.reason);
        }
        if is_over {
            changes.end(launch, record.last_end);
        }
    }

    fn remove(&mut self, changes: &mut Changes<'_, T>) {
        if let Some(mut launch) = self.launches.remove(changes.server) {
            changes.end(&mut launch, None);
            changes.push(launch.incarnation, Transition::Removed);
            self.removed.insert(changes.server.clone(), launch.incarnation);
        }
    }

    /// Makes `incarnation` the tracked launch, unless it is already; the one before it is over then.
    fn begin(&mut self, changes: &mut Changes<'_, T>, incarnation: Incarnation) {
        let server = changes.server;
        match self.launches.get_mut(server) {
            Some(known) if known.incarnation >= incarnation => known.has_begun |= known.incarnation == incarnation,
            known => {
                if let Some(former) = known {
                    changes.end(former, None);
                }
                let spec = self.configured(server);
                let launch = TrackedLaunch { has_begun: true, ..TrackedLaunch::new(incarnation, spec) };
                self.launches.insert(server.clone(), launch);
                changes.push(incarnation, Transition::Began);
            }
        }
    }
}

impl<T: Default> TrackedLaunch<T> {
    fn new(incarnation: Incarnation, spec: Option<Arc<ServerSpec>>) -> Self {
        Self { incarnation, spec, ..Self::default() }
    }

    fn spawn(&mut self, changes: &mut Changes<'_, T>, process: LaunchedProcess) {
        if self.process.replace(process).is_none() {
            changes.push(self.incarnation, Transition::Spawned(process));
        }
    }

    /// `via` is known where it became ready for the first time.
    fn set_readiness(&mut self, changes: &mut Changes<'_, T>, now: LaunchReadiness, via: Option<ReadyVia>) {
        let transition = match (self.readiness, now, via) {
            (LaunchReadiness::NotYet, LaunchReadiness::Ready, Some(via)) => Transition::BecameReady(via),
            (LaunchReadiness::Ready, LaunchReadiness::Lost, _) => Transition::ReadyLost,
            (LaunchReadiness::Lost, LaunchReadiness::Ready, _) => Transition::ReadyRegained,
            _ => return,
        };
        self.readiness = now;
        changes.push(self.incarnation, transition);
    }

    fn complete_hook(&mut self, changes: &mut Changes<'_, T>, hook: HookPoint, outcome: &HookOutcome) {
        let completed = match hook {
            HookPoint::PreStart => &mut self.completed[0],
            HookPoint::PreStop => &mut self.completed[1],
            // Nothing waits for the others.
            HookPoint::PostReady | HookPoint::PostExit => return,
        };
        if !std::mem::replace(completed, true) {
            changes.push(self.incarnation, Transition::HookCompleted(hook, outcome.clone()));
        }
    }

    fn set_stop(&mut self, changes: &mut Changes<'_, T>, reason: StopReason) {
        if self.stop.replace(reason).is_none() {
            changes.push(self.incarnation, Transition::StopBegan(reason));
        }
    }

    fn set_failure(&mut self, changes: &mut Changes<'_, T>, reason: FailureReason) {
        if self.failure.replace(reason).is_none() {
            changes.push(self.incarnation, Transition::Failed(reason));
        }
    }
}

/// The changes of one server that one delivery brings.
struct Changes<'a, T> {
    server: &'a ServerId,
    cause: Option<Seq>,
    at: Uptime,
    list: Vec<LaunchChange<T>>,
}

impl<T: Default> Changes<'_, T> {
    fn push(&mut self, incarnation: Incarnation, transition: Transition<T>) {
        let (server, cause, at) = (self.server.clone(), self.cause, self.at);
        self.list.push(LaunchChange { server, incarnation, cause, at, transition });
    }

    /// Marks a launch as over and hands its state out; what stays says only that it is over.
    fn end(&mut self, launch: &mut TrackedLaunch<T>, end: Option<ProcessEnd>) {
        if launch.is_over {
            return;
        }
        launch.is_over = true;
        let has_begun = launch.has_begun;
        let mut ended = TrackedLaunch { is_over: true, has_begun, ..TrackedLaunch::new(launch.incarnation, None) };
        std::mem::swap(&mut ended, launch);
        let incarnation = ended.incarnation;
        self.push(incarnation, Transition::Ended { end, launch: Box::new(ended) });
    }
}
