//! The whole fleet as a plain state machine: commands, events and answers in, actions out.
//!
//! Invariants:
//!
//! * Servers start and stop side by side; per server, [`ServerState`] serialises everything.
//! * Nothing is launched while a server of a switch still has to stop, nor once a shutdown has begun.
//! * Every input ends with [`SupervisorMachine::reconcile`], which alone launches servers and answers commands about the
//!   whole fleet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use llama_warden_config::AdmissionPolicy;
use llama_warden_events::{
    Event, Incarnation, LeftFailure, RefusalReason, Refused, Seq, ServerId, StopReason, SuperviseCommand, Uptime,
};
use llama_warden_room::Admission;

use crate::action::{Actions, SupervisorAction};
use crate::machine::demand::Demand;
use crate::machine::room::Eviction;
use crate::policy::{RoutingPolicy, ServerPolicy};
use crate::server_state::{BackoffInput, Drain, ServerState, StopRequest};
use crate::shutdown::Shutdown;

mod demand;
mod inputs;
mod reconcile;
mod room;

pub use reconcile::RESTARTS_AT_ONCE;

/// The configuration of one server, as far as the supervisor needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredServer {
    /// The configured server.
    pub server: ServerId,
    /// How it is restarted, stopped and evicted.
    pub policy: ServerPolicy,
    /// What becomes of it.
    pub goal: ServerGoal,
    /// Whether a running process of it no longer matches the configuration and has to be replaced.
    pub changed: bool,
}

/// What a switch wants of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerGoal {
    /// It runs, as it is configured.
    Run,
    /// It is down.
    Down,
    /// What it does is left alone, a scheduled restart included.
    AsItIs,
}

/// Settings of the machine.
#[derive(Debug, Clone)]
pub struct SupervisorLimits {
    /// Longest time from the command to shut down to the end of the daemon.
    pub shutdown: Duration,
    /// How many servers may load at a time; `None` is no limit.
    pub starts: Option<usize>,
    /// What happens when the estimated memory of a launch does not suffice.
    pub memory: AdmissionPolicy,
    /// What requests may do.
    pub routing: RoutingPolicy,
}

/// How a daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonEnding {
    /// It stops every server.
    Stop,
    /// It leaves every process to the next daemon.
    HandOver,
}

/// Desired and actual state of every server.
#[derive(Debug)]
pub struct SupervisorMachine {
    servers: BTreeMap<ServerId, ServerState>,
    /// Servers whose launch is due, in the order of the requests.
    queue: VecDeque<ServerId>,
    /// Servers that must be down before anything is launched: a switch frees memory before it needs it.
    stopping_first: BTreeSet<ServerId>,
    /// Servers that left the configuration; they are dropped once they are down.
    removed: BTreeSet<ServerId>,
    /// The latest launch of each server that was dropped. One that comes back counts on from there: events, tags and
    /// their readers could not distinguish two launches of one name and number.
    dropped: BTreeMap<ServerId, Incarnation>,
    /// Commands about the whole fleet, answered once every wanted server is ready or has failed.
    pending_switches: Vec<Seq>,
    shutdown: Option<Shutdown>,
    /// Whether `shutdown` leaves every process to the next daemon.
    hands_over: bool,
    /// Servers for which requests wait.
    demands: BTreeMap<ServerId, Demand>,
    /// Evictions under way, each by the server that needs the room.
    evictions: BTreeMap<ServerId, Eviction>,
    /// When a server that waits for room is looked at again.
    room_check_at: Option<Uptime>,
    limits: SupervisorLimits,
    admission: Admission,
    /// The time of the latest input. Inputs without a time of their own happen then.
    now: Uptime,
    /// Seeded, so that the machine stays a function of its inputs.
    rng: fastrand::Rng,
}

impl SupervisorMachine {
    /// A fleet without servers. The jitter of restarts is drawn from `seed`.
    pub fn new(limits: SupervisorLimits, seed: u64) -> Self {
        Self {
            servers: BTreeMap::new(),
            queue: VecDeque::new(),
            stopping_first: BTreeSet::new(),
            removed: BTreeSet::new(),
            dropped: BTreeMap::new(),
            pending_switches: Vec::new(),
            shutdown: None,
            hands_over: false,
            demands: BTreeMap::new(),
            evictions: BTreeMap::new(),
            room_check_at: None,
            admission: Admission::new(limits.memory),
            limits,
            now: Uptime::default(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Adds a server, unless it is known. `failures` are the consecutive failures of an earlier run of the daemon.
    pub fn add(&mut self, server: ServerId, policy: ServerPolicy, failures: u32) {
        // A server that comes back to the configuration while its stop is under way keeps its state.
        self.removed.remove(&server);
        let dropped = &mut self.dropped;
        self.servers.entry(server.clone()).or_insert_with(|| {
            let latest = dropped.remove(&server).unwrap_or_default();
            ServerState::new(server, policy, failures).continued_from(latest)
        });
    }

    /// Notes how long a server usually loads, as earlier daemons have measured it.
    pub fn note_usual_load(&mut self, server: &ServerId, load: Duration) {
        if let Some(state) = self.servers.get_mut(server) {
            state.note_load(load);
        }
    }

    /// Launches a server whose process an earlier daemon left, with the number that its launch has. It waits for no memory and no turn,
    /// since it has what it needs; its memory is reserved, as for any other launch.
    pub fn adopt(&mut self, server: &ServerId, incarnation: Incarnation) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        if let Some(state) = self.servers.get_mut(server) {
            state.continue_before(incarnation);
            state.start(None, &mut actions);
            let incarnation = state.launch(None);
            self.admission.adopt(server, &mut actions);
            actions.push(SupervisorAction::Launch { server: server.clone(), incarnation });
        }
        actions
    }

    /// Leaves a server down as an earlier daemon has left it: with a failure, or because a person has stopped it.
    pub fn leave_down(&mut self, server: &ServerId, failed: Option<LeftFailure>) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        if let Some(state) = self.servers.get_mut(server) {
            state.leave_down(failed, &mut actions);
        }
        actions
    }

    /// Servers that failed and are not restarted, for the next daemon.
    pub fn left_failures(&self) -> impl Iterator<Item = (&ServerId, LeftFailure)> {
        self.servers.iter().filter_map(|(server, state)| Some((server, state.left_failure()?)))
    }

    /// Whether the daemon ends, and how.
    pub fn ending(&self) -> Option<DaemonEnding> {
        self.shutdown.as_ref().map(|_| if self.hands_over { DaemonEnding::HandOver } else { DaemonEnding::Stop })
    }

    /// Starts these servers, without a command to answer.
    pub fn start_all<'a>(&mut self, servers: impl IntoIterator<Item = &'a ServerId>) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        for server in servers {
            if let Some(state) = self.servers.get_mut(server) {
                state.start(None, &mut actions);
            }
        }
        self.reconcile(None, &mut actions);
        actions
    }

    /// Switches the fleet to another configuration. Servers that it does not name are stopped and dropped; a server that
    /// should run and does so unchanged is not touched. `id` is answered once every server that should run is ready or has failed.
    pub fn switch(&mut self, desired: &[DesiredServer], id: Option<Seq>, now: Uptime) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        self.now = now;
        let named: BTreeSet<_> = desired.iter().map(|desired| &desired.server).collect();
        let gone: Vec<_> = self.servers.keys().filter(|server| !named.contains(server)).cloned().collect();
        for server in gone {
            self.stop_for_switch(&server, &mut actions);
            if let Some(state) = self.servers.get_mut(&server) {
                state.forget_user();
            }
            self.removed.insert(server);
        }
        for desired in desired {
            self.add(desired.server.clone(), desired.policy.clone(), 0);
            if let Some(state) = self.servers.get_mut(&desired.server) {
                state.set_policy(desired.policy.clone());
            }
            if desired.goal == ServerGoal::Down {
                self.stop_for_switch(&desired.server, &mut actions);
            }
        }
        for desired in desired.iter().filter(|desired| desired.goal == ServerGoal::Run) {
            let server = &desired.server;
            let stop = self.stop_before(StopReason::Restart);
            let Some(state) = self.servers.get_mut(server) else { continue };
            if desired.changed && !state.is_down() {
                self.stopping_first.insert(server.clone());
                state.restart(None, stop, &mut actions);
                continue;
            }
            if desired.changed {
                // Its launch may wait for memory with an estimate of the options that it no longer has.
                self.admission.release(server, self.now, &mut actions);
            }
            state.start(None, &mut actions);
        }
        self.pending_switches.extend(id);
        self.reconcile(None, &mut actions);
        actions
    }

    /// Whether a command must be refused, and why.
    pub fn refusal(&self, command: &SuperviseCommand, now: Uptime) -> Option<Refused> {
        let server = match command {
            SuperviseCommand::ShutDown { .. } => return None,
            SuperviseCommand::HandOver { .. } => {
                if self.shutdown.is_some() {
                    return Some(Refused::new(RefusalReason::ShuttingDown, "the daemon is shutting down"));
                }
                let between = self.servers.iter().find(|(_, state)| state.is_between());
                return between.map(|(server, _)| {
                    let detail = format!("{server} is just being started or stopped; try again in a moment");
                    Refused::new(RefusalReason::WrongPhase, detail)
                });
            }
            // A stop is accepted during a shutdown too: with `force`, it shortens the stop under way.
            SuperviseCommand::StopServer { server, .. } => server,
            _ if self.shutdown.is_some() => {
                return Some(Refused::new(RefusalReason::ShuttingDown, "the daemon is shutting down"));
            }
            SuperviseCommand::WantServer { server, .. } if self.is_known(server) => {
                return self.demand_refusal(server, now);
            }
            SuperviseCommand::StartServer { server }
            | SuperviseCommand::WantServer { server, .. }
            | SuperviseCommand::RestartServer { server, .. }
            | SuperviseCommand::UnloadServer { server }
            | SuperviseCommand::UnwantServer { server }
            | SuperviseCommand::ChangeBuild { server, .. } => server,
            SuperviseCommand::ActivateProfile { .. } | SuperviseCommand::Reload { .. } => return None,
        };
        (!self.is_known(server)).then(|| {
            let known: Vec<_> = self.servers.keys().map(ServerId::as_str).collect();
            let detail = format!("no server `{server}` is configured; there are: {}", known.join(", "));
            Refused::new(RefusalReason::UnknownServer, detail)
        })
    }

    /// Carries out an accepted command about servers. `id` is the `seq` of its `CommandAccepted`. The caller resolves a
    /// change of the configuration and calls [`Self::switch`] instead.
    pub fn on_command(&mut self, command: SuperviseCommand, id: Seq, now: Uptime) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        self.now = now;
        let grace_or_zero = |force: bool, grace| if force { Some(Duration::ZERO) } else { grace };
        match command {
            SuperviseCommand::StartServer { server } => {
                if let Some(state) = self.servers.get_mut(&server) {
                    state.start(Some(id), &mut actions);
                }
            }
            SuperviseCommand::StopServer { server, grace, force } => {
                let stop = self.stop_by_hand(StopReason::Requested, grace_or_zero(force, grace));
                if let Some(state) = self.servers.get_mut(&server) {
                    state.stop(Some(id), stop, &mut actions);
                }
            }
            SuperviseCommand::RestartServer { server, grace, force } => {
                let stop = self.stop_by_hand(StopReason::Restart, grace_or_zero(force, grace));
                if let Some(state) = self.servers.get_mut(&server) {
                    state.restart(Some(id), stop, &mut actions);
                }
            }
            SuperviseCommand::UnloadServer { server } => {
                let stop = self.stop_before(StopReason::Unloaded);
                if let Some(state) = self.servers.get_mut(&server) {
                    state.stop(Some(id), stop, &mut actions);
                }
            }
            SuperviseCommand::HandOver { trigger } => {
                self.shutdown = Some(Shutdown::begin(id, now, self.limits.shutdown));
                self.hands_over = true;
                actions.push(SupervisorAction::publish_daemon(Event::DaemonHandingOver { trigger }));
                actions.push(SupervisorAction::publish_daemon(Event::DaemonStopped { survivors: Vec::new() }));
                return actions;
            }
            SuperviseCommand::ShutDown { trigger, force } => {
                match &mut self.shutdown {
                    Some(shutdown) => shutdown.join(id),
                    None => {
                        self.shutdown = Some(Shutdown::begin(id, now, self.limits.shutdown));
                        actions.push(SupervisorAction::publish_daemon(Event::DaemonStopping { trigger }));
                    }
                }
                // A server that is being handed over is the next daemon's.
                if !self.hands_over {
                    self.stop_all(force, &mut actions);
                }
            }
            SuperviseCommand::WantServer { server, oldest, priority } => self.want(server, Demand { oldest, priority }),
            SuperviseCommand::UnwantServer { server } => self.unwant(&server, &mut actions),
            SuperviseCommand::ActivateProfile { .. }
            | SuperviseCommand::ChangeBuild { .. }
            | SuperviseCommand::Reload { .. } => {}
        }
        self.reconcile(None, &mut actions);
        actions
    }

    /// When [`Self::on_deadline`] has something to do; `None` is never.
    pub fn next_deadline(&self) -> Option<Uptime> {
        let servers = self.servers.values().filter_map(ServerState::next_deadline);
        let shutdown = self.shutdown.as_ref().and_then(Shutdown::next_deadline);
        let others = [
            shutdown,
            self.admission.next_deadline(),
            self.room_check_at,
            self.next_idle_stop(),
            self.next_room_look(),
        ];
        servers.chain(others.into_iter().flatten()).min()
    }

    /// Makes scheduled restarts due, and reads memory again for launches that are held. Near the deadline of a shutdown it
    /// kills the servers that are left; at the deadline it ends the shutdown and names them.
    pub fn on_deadline(&mut self, now: Uptime) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        self.now = now;
        self.admission.on_deadline(now);
        if self.room_check_at.take_if(|at| *at <= now).is_some() {
            self.admission.mark_dirty();
        }
        for state in self.servers.values_mut() {
            state.on_deadline(now, &mut actions);
        }
        if self.shutdown.as_mut().is_some_and(|shutdown| shutdown.take_force(now)) {
            self.stop_all(true, &mut actions);
        }
        if self.shutdown.as_mut().is_some_and(|shutdown| shutdown.take_expired(now)) {
            let survivors = self.servers.iter().filter(|(_, state)| !state.is_down());
            let survivors = survivors.map(|(server, _)| server.clone()).collect();
            actions.push(SupervisorAction::publish_daemon(Event::DaemonStopped { survivors }));
        }
        self.reconcile(None, &mut actions);
        actions
    }

    /// Consecutive failures of every server that has some.
    pub fn failures(&self) -> BTreeMap<ServerId, u32> {
        let counts = self.servers.iter().map(|(server, state)| (server.clone(), state.failures()));
        counts.filter(|(_, failures)| *failures > 0).collect()
    }

    fn stop_for_switch(&mut self, server: &ServerId, actions: &mut Actions) {
        let stop = self.stop_before(StopReason::Reconfigured);
        let Some(state) = self.servers.get_mut(server) else { return };
        if !state.is_down() {
            self.stopping_first.insert(server.clone());
        }
        // Also where it is down: this cancels a launch that is due and a scheduled restart.
        state.stop(None, stop, actions);
    }

    fn stop_all(&mut self, force: bool, actions: &mut Actions) {
        self.demands.clear();
        let left = self.shutdown.as_ref().map_or(Duration::ZERO, |shutdown| shutdown.time_left(self.now));
        for state in self.servers.values_mut() {
            let drain = self.limits.routing.drain.min(left.saturating_sub(state.policy().grace));
            let (reason, grace) = (StopReason::Shutdown, force.then_some(Duration::ZERO));
            let stop = StopRequest { reason, grace, asked_at: self.now, drain: Drain::Before(drain) };
            state.stop(None, stop, actions);
        }
    }

    const fn stop_by_hand(&self, reason: StopReason, grace: Option<Duration>) -> StopRequest {
        StopRequest { reason, grace, asked_at: self.now, drain: Drain::WithinGrace }
    }

    /// A stop that leaves requests their time before its grace begins.
    const fn stop_before(&self, reason: StopReason) -> StopRequest {
        let drain = Drain::Before(self.limits.routing.drain);
        StopRequest { reason, grace: None, asked_at: self.now, drain }
    }

    fn is_known(&self, server: &ServerId) -> bool {
        self.servers.contains_key(server) && !self.removed.contains(server)
    }

    fn backoff_input(&mut self, now: Uptime) -> BackoffInput {
        self.now = now;
        BackoffInput { now, jitter: self.rng.f64() }
    }
}
