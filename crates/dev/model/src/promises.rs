//! Keeps account of what was asked and what happened, independently of the product, and says which promise is broken.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use llama_warden_config::{Fleet, RestartSpec};
use llama_warden_events::{Envelope, Event, Incarnation, ReadyVia, Seq, ServerId, SuperviseCommand, Uptime, Warning};
use llama_warden_readiness::ReadinessAction;
use llama_warden_state::{PhaseName, Snapshot};
use llama_warden_supervisor::SwitchKind;

use crate::BrokenPromise;
use crate::world::{SimulatedProcess, World};

/// What the last command that touches a server wants of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Up,
    Down,
    /// Requests asked for it, or somebody unloaded it.
    Any,
}

#[derive(Debug, Clone, Copy)]
struct Intent {
    wanted: Wanted,
    /// A person stopped it, and nobody has started it since.
    is_stopped_by_person: bool,
    /// A person or a request asked for it, and no stop came since.
    is_asked: bool,
    is_demanded: bool,
}

impl Intent {
    const fn new(wanted: Wanted) -> Self {
        Self { wanted, is_stopped_by_person: false, is_asked: false, is_demanded: false }
    }
}

/// How long requests leave a server alone that was given up.
const GIVEN_UP_FOR: Duration = Duration::from_secs(300);

/// The restarts of one server by policy.
#[derive(Debug, Default)]
struct Restarts {
    not_before: Option<Uptime>,
    in_a_row: u32,
    given_up_at: Option<Uptime>,
}

/// The account of one run.
#[derive(Debug, Default)]
pub struct Promises {
    /// Whether servers may be stopped because others need their room, or nobody uses them.
    is_routed: bool,
    intents: BTreeMap<ServerId, Intent>,
    restarts: BTreeMap<ServerId, Restarts>,
    /// Accepted commands that are not completed.
    open: BTreeSet<Seq>,
    replies: BTreeMap<u64, u32>,
    /// Launches that the supervisor has sent and of which it has not read that they are ready or over.
    loading: BTreeMap<ServerId, Incarnation>,
    /// Launches of which readiness had reason to say that they are ready, when it said so.
    proven: BTreeSet<(ServerId, Incarnation)>,
    is_shutting_down: bool,
    survivors: Option<Vec<ServerId>>,
}

impl Promises {
    /// With a router, or without.
    pub fn new(is_routed: bool) -> Self {
        Self { is_routed, ..Self::default() }
    }

    /// The servers that a daemon starts with.
    pub fn begin(&mut self, fleet: &Fleet) {
        for spec in fleet.iter() {
            let wanted = if spec.enabled { Wanted::Up } else { Wanted::Down };
            self.intents.insert(spec.id.clone(), Intent::new(wanted));
        }
    }

    /// Whether the daemon has announced its end.
    pub const fn has_ended(&self) -> bool {
        self.survivors.is_some()
    }

    /// Whether a shutdown was accepted.
    pub const fn is_shutting_down(&self) -> bool {
        self.is_shutting_down
    }

    /// Somebody sent a command.
    pub fn on_request(&mut self, request: u64) {
        self.replies.insert(request, 0);
    }

    /// A command was accepted or refused.
    pub fn on_reply(&mut self, request: u64) {
        *self.replies.entry(request).or_default() += 1;
    }

    /// The supervisor carries out a command about servers.
    pub fn on_command(&mut self, command: &SuperviseCommand) {
        let (server, wanted) = match command {
            SuperviseCommand::StartServer { server } | SuperviseCommand::RestartServer { server, .. } => {
                (server, Wanted::Up)
            }
            SuperviseCommand::StopServer { server, .. } => (server, Wanted::Down),
            SuperviseCommand::UnloadServer { server } => (server, Wanted::Any),
            SuperviseCommand::WantServer { server, .. } => {
                if let Some(intent) = self.intents.get_mut(server) {
                    (intent.is_asked, intent.is_demanded) = (true, true);
                    intent.wanted = if intent.wanted == Wanted::Down { Wanted::Any } else { intent.wanted };
                }
                return;
            }
            SuperviseCommand::ShutDown { .. } => {
                self.is_shutting_down = true;
                return self.intents.values_mut().for_each(|intent| intent.wanted = Wanted::Down);
            }
            _ => return,
        };
        self.restarts.remove(server);
        if let Some(intent) = self.intents.get_mut(server) {
            // What a person stopped is no less stopped when somebody unloads it.
            let is_stopped_by_person = wanted == Wanted::Down || (wanted == Wanted::Any && intent.is_stopped_by_person);
            let wanted = if is_stopped_by_person { Wanted::Down } else { wanted };
            *intent = Intent { is_stopped_by_person, is_asked: wanted == Wanted::Up, ..Intent::new(wanted) };
        }
    }

    /// The supervisor applies a change of profile or configuration.
    pub fn on_switch(&mut self, old: &Fleet, next: &Fleet, kind: SwitchKind) {
        self.intents.retain(|server, _| next.get(server.as_str()).is_some());
        for spec in next.iter() {
            let before = old.get(spec.id.as_str());
            let intent = self.intents.entry(spec.id.clone());
            let intent = intent.or_insert(Intent::new(Wanted::Down));
            let wanted = match kind {
                SwitchKind::Reload if before == Some(spec) => continue,
                SwitchKind::Reload if spec.enabled && intent.is_stopped_by_person => continue,
                // It may be unloaded, and a reload leaves it so.
                SwitchKind::Reload if spec.enabled && intent.wanted == Wanted::Any => continue,
                SwitchKind::Reload if !spec.enabled && before.is_some_and(|before| !before.enabled) => continue,
                _ if spec.enabled => Wanted::Up,
                _ if intent.is_asked && (kind == SwitchKind::Reload || intent.is_demanded) => Wanted::Any,
                _ => Wanted::Down,
            };
            intent.wanted = wanted;
            intent.is_stopped_by_person &= wanted == Wanted::Down;
        }
        self.restarts.clear();
    }

    /// The supervisor sends a launch.
    pub fn on_launch(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        restart: &RestartSpec,
        starts: Option<usize>,
        now: Uptime,
    ) -> Result<(), BrokenPromise> {
        if self.is_shutting_down {
            return Err(BrokenPromise::LaunchedInShutdown(server.clone()));
        }
        self.loading.insert(server.clone(), incarnation);
        if starts.is_some_and(|starts| self.loading.len() > starts) {
            return Err(BrokenPromise::TooManyStarts(self.loading.len()));
        }
        let restarts = self.restarts.entry(server.clone()).or_default();
        let broken = |what: String| Err(BrokenPromise::Backoff(server.clone(), what));
        if restarts.given_up_at.take().is_some_and(|at| now.since(at) < GIVEN_UP_FOR) {
            return broken("launched after it was given up".to_owned());
        }
        if let Some(not_before) = restarts.not_before.take() {
            if now < not_before {
                return broken(format!("launched at {now:?}, scheduled for {not_before:?}"));
            }
            restarts.in_a_row += 1;
            if restarts.in_a_row > restart.max_attempts {
                return broken(format!("restarted {} times in a row", restarts.in_a_row));
            }
        }
        Ok(())
    }

    /// The supervisor publishes an event.
    pub fn on_decision(
        &mut self,
        server: Option<&ServerId>,
        event: &Event,
        restart: Option<&RestartSpec>,
        now: Uptime,
    ) -> Result<(), BrokenPromise> {
        let (Some(server), Some(restart)) = (server, restart) else { return Ok(()) };
        let restarts = self.restarts.entry(server.clone()).or_default();
        match event {
            Event::RestartScheduled { attempt, max_attempts, delay_seconds } => {
                let bound = restart.initial_delay.saturating_mul(1 << (attempt - 1).min(20)).min(restart.max_delay);
                if *delay_seconds > bound.as_secs_f64() || max_attempts.is_some_and(|most| *attempt > most) {
                    return Err(BrokenPromise::Backoff(server.clone(), format!("{event:?}, at most {bound:?}")));
                }
                let delay = Duration::try_from_secs_f64(*delay_seconds).unwrap_or_default();
                restarts.not_before = Some(now + delay);
                if max_attempts.is_none() {
                    restarts.in_a_row = 0;
                }
            }
            Event::RestartCancelled => restarts.not_before = None,
            Event::RestartAbandoned { .. } => restarts.given_up_at = Some(now),
            _ => {}
        }
        Ok(())
    }

    /// The file that a server failed for has changed.
    pub fn on_file_changed(&mut self, server: &ServerId) {
        self.restarts.remove(server);
    }

    /// The supervisor learns that a launch does not load any more.
    pub fn on_loaded(&mut self, server: &ServerId, incarnation: Incarnation) {
        if self.loading.get(server) == Some(&incarnation) {
            self.loading.remove(server);
        }
    }

    /// The supervisor has read an event.
    pub fn on_read(&mut self, envelope: &Envelope) {
        let (Some(server), Some(incarnation)) = (&envelope.server, envelope.incarnation) else { return };
        match envelope.event {
            Event::ReadyReached { .. } => {
                if let Some(restarts) = self.restarts.get_mut(server) {
                    restarts.in_a_row = 0;
                }
                self.on_loaded(server, incarnation);
            }
            Event::ServerFailed { .. } | Event::ServerExited { .. } | Event::ServerStopped { .. } => {
                self.on_loaded(server, incarnation);
            }
            _ => {}
        }
    }

    /// The supervisor has missed events.
    pub fn on_missed(&mut self, snapshot: &Snapshot) {
        self.restarts.values_mut().for_each(|restarts| restarts.in_a_row = 0);
        self.loading.retain(|server, incarnation| {
            let record = snapshot.servers.get(server).filter(|record| record.incarnation == *incarnation);
            record.is_none_or(|record| {
                use PhaseName::{Idle, Launching, Loading, Starting};
                matches!(record.phase.name(), Idle | Launching | Starting | Loading)
            })
        });
    }

    /// An event became visible. `before` is the snapshot before it.
    pub fn on_event(&mut self, envelope: &Envelope, before: &Snapshot, world: &World) -> Result<(), BrokenPromise> {
        let is_left = |server: &ServerId, incarnation| {
            world.processes.get(server).is_some_and(|process| process.incarnation == incarnation)
        };
        match (&envelope.event, &envelope.server, envelope.incarnation) {
            (Event::CommandAccepted { .. }, ..) => drop(self.open.insert(envelope.seq)),
            (Event::CommandCompleted { .. }, ..) => {
                let id = envelope.cause.unwrap_or_default();
                if !self.open.remove(&id) {
                    return Err(BrokenPromise::CompletedTwice(id));
                }
            }
            (Event::DaemonStopped { survivors }, ..) => {
                if self.survivors.replace(survivors.clone()).is_some() {
                    return Err(BrokenPromise::StoppedTwice);
                }
                let left = world.processes.keys().filter(|server| !survivors.contains(server));
                let left: Vec<_> = left.cloned().collect();
                if !left.is_empty() {
                    return Err(BrokenPromise::LeftAtTheEnd(left));
                }
            }
            (Event::ServerExited { .. } | Event::ServerStopped { .. }, Some(server), Some(incarnation))
                if is_left(server, incarnation) =>
            {
                return Err(BrokenPromise::LeftBehind(server.clone(), incarnation));
            }
            _ => {}
        }
        self.on_ready(envelope, before)
    }

    fn on_ready(&self, envelope: &Envelope, before: &Snapshot) -> Result<(), BrokenPromise> {
        let (Event::ReadyReached { .. }, Some(server), Some(incarnation)) =
            (&envelope.event, &envelope.server, envelope.incarnation)
        else {
            return Ok(());
        };
        use PhaseName::{Loading, Starting};
        let record = before.servers.get(server).filter(|record| record.incarnation == incarnation);
        if record.is_none_or(|record| !matches!(record.phase.name(), Starting | Loading)) {
            // Too late: the fold drops it.
            return Ok(());
        }
        if self.proven.contains(&(server.clone(), incarnation)) {
            Ok(())
        } else {
            Err(BrokenPromise::FalseReady(server.clone(), incarnation))
        }
    }

    /// Readiness decides about a launch. What counts is what it can know: a process may end between this and the number of the event,
    /// or before, unheard.
    pub fn on_verdict(
        &mut self,
        (server, incarnation): &(ServerId, Incarnation),
        actions: &[ReadinessAction],
        process: Option<&SimulatedProcess>,
    ) {
        let is_assumed = |action: &ReadinessAction| {
            matches!(action, ReadinessAction::Publish(Event::ReadyReached { via: ReadyVia::Timeout, .. }))
        };
        let is_warning = |action: &ReadinessAction| {
            use Warning::{ListenerUnverified, ModelUnverified, ReadyAssumed};
            let ReadinessAction::Publish(Event::ServerWarned { warning, .. }) = action else { return false };
            matches!(warning, ListenerUnverified | ModelUnverified | ReadyAssumed)
        };
        // A launch whose exit is published has no process here; the fold drops what comes behind that.
        let Some(process) = process.filter(|process| process.incarnation == *incarnation) else { return };
        let is_dead = process.is_found_dead && !actions.iter().any(is_assumed);
        // What could not be verified is said with a warning.
        if !is_dead && (process.has_answered || actions.iter().any(is_warning)) {
            self.proven.insert((server.clone(), *incarnation));
        }
    }

    /// Everything has come to rest: every command is answered, and every server is what was asked for last.
    pub fn at_rest(&self, snapshot: &Snapshot, fleet: &Fleet) -> Result<(), BrokenPromise> {
        let has_survivors = self.survivors.as_ref().is_some_and(|survivors| !survivors.is_empty());
        if !self.open.is_empty() && !has_survivors {
            return Err(BrokenPromise::Unanswered(self.open.iter().copied().collect()));
        }
        if let Some((request, replies)) = self.replies.iter().find(|(_, replies)| **replies != 1) {
            return Err(BrokenPromise::Replies(*request, *replies));
        }
        if has_survivors {
            return Ok(());
        }
        if let Some(server) = snapshot.servers.keys().find(|server| !self.intents.contains_key(*server)) {
            return Err(BrokenPromise::Intent(server.clone(), "removed, and it is there".to_owned()));
        }
        for (server, intent) in &self.intents {
            let Some(record) = snapshot.servers.get(server) else {
                return Err(BrokenPromise::Intent(server.clone(), "configured, and it is unknown".to_owned()));
            };
            let is_hopeless = || {
                let spec = fleet.get(server.as_str());
                let never = spec.is_some_and(|spec| spec.restart.policy == llama_warden_config::RestartPolicy::Never);
                record.phase.name() == PhaseName::Failed && (never || record.restart_abandoned.is_some())
            };
            let is_met = match intent.wanted {
                Wanted::Any => true,
                // Requests that still wait have it started again, unless a person stopped it.
                Wanted::Down if self.is_routed && !self.is_shutting_down && !intent.is_stopped_by_person => true,
                Wanted::Up if self.is_routed => record.is_ready() || record.phase.name().is_settled_down(),
                Wanted::Up => record.is_ready() || is_hopeless(),
                Wanted::Down => record.phase.name().is_settled_down() && !record.is_running(),
            };
            if !is_met {
                let found = format!("{:?}, and it is {:?}", intent.wanted, record.phase);
                return Err(BrokenPromise::Intent(server.clone(), found));
            }
        }
        Ok(())
    }
}
