//! The whole fleet as a plain state machine: wishes and events in, actions out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use llama_warden_config::{AdmissionPolicy, RestartSpec, Shared};
use llama_warden_events::{
    CommandOutcome, Envelope, Event, Incarnation, RefusalReason, Refused, Seq, ServerId, StopReason, SuperviseCommand,
    Uptime,
};
use llama_warden_memory::{Demand, Reading};
use llama_warden_state::Snapshot;

use crate::action::{ServerStateAction, SupervisorAction};
use crate::admission::{Admission, AdmissionDecision};
use crate::server_state::{BackoffInput, ServerState, StartReason};
use crate::server_states::ServerStates;
use crate::shutdown::Shutdown;

/// How many servers policy brings back at a time where `start.max-concurrent` sets no limit: N servers that failed
/// together would otherwise load together, with the memory and the disk of one machine.
pub const RESTARTS_AT_ONCE: usize = 2;

/// What a configuration says of one server, as far as the supervisor needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredServer {
    /// Which.
    pub server: ServerId,
    /// When it is started again.
    pub restart: Shared<RestartSpec>,
    /// Whether it should run.
    pub wanted: bool,
    /// Whether a running process of it no longer fits the configuration.
    pub changed: bool,
}

/// How the machine is set up.
#[derive(Debug, Clone)]
pub struct SupervisorLimits {
    /// Longest time from the wish to shut down to the end.
    pub shutdown: Duration,
    /// How many servers may load at a time; `None` is all.
    pub starts: Option<usize>,
    /// What happens when the estimated memory does not suffice.
    pub memory: AdmissionPolicy,
}

/// The fleet.
#[derive(Debug)]
pub struct SupervisorMachine {
    servers: ServerStates,
    /// Servers whose launch is due, in the order of the wishes.
    queue: VecDeque<ServerId>,
    /// Servers that must be down before anything is launched: a switch frees memory before it needs it.
    stopping_first: BTreeSet<ServerId>,
    /// Servers that are forgotten once they are down.
    removed: BTreeSet<ServerId>,
    /// Commands about the whole fleet that end when every wanted server has.
    pending_switches: Vec<Seq>,
    shutdown: Option<Shutdown>,
    limits: SupervisorLimits,
    admission: Admission,
    /// The latest time that was told; what is told without one happens then.
    now: Uptime,
    /// Seeded, so that the machine stays a function of what it is given.
    rng: fastrand::Rng,
}

impl SupervisorMachine {
    /// A fleet of which nothing runs. Back-offs are drawn from `seed`.
    pub fn new(limits: SupervisorLimits, seed: u64) -> Self {
        Self {
            servers: ServerStates::default(),
            queue: VecDeque::new(),
            stopping_first: BTreeSet::new(),
            removed: BTreeSet::new(),
            pending_switches: Vec::new(),
            shutdown: None,
            admission: Admission::new(limits.memory),
            limits,
            now: Uptime::default(),
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Adds a server that was never launched, with the consecutive failures of an earlier run.
    pub fn add(&mut self, server: ServerId, restart: Shared<RestartSpec>, failures: u32) {
        self.removed.remove(&server);
        self.servers.add(server, || ServerState::new(restart, failures));
    }

    /// Starts these servers.
    pub fn start_all<'a>(&mut self, servers: impl IntoIterator<Item = &'a ServerId>) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        for server in servers {
            self.with_server(server, &mut actions, |state, actions| state.start(None, actions));
        }
        self.reconcile(&mut actions);
        actions
    }

    /// Brings the fleet to what a configuration says. Servers that it does not name leave; a server that is wanted and
    /// unchanged is not touched. `id` is answered when every wanted server is ready or has failed.
    pub fn switch(&mut self, members: &[DesiredServer], id: Option<Seq>) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        let named: BTreeSet<_> = members.iter().map(|member| &member.server).collect();
        let gone: Vec<_> = self.servers.servers().filter(|server| !named.contains(server)).cloned().collect();
        for server in gone {
            self.removed.insert(server.clone());
            self.stop_for_switch(&server, &mut actions);
        }
        for member in members {
            self.add(member.server.clone(), member.restart.clone(), 0);
            self.with_server(&member.server, &mut actions, |state, _| state.set_restart(member.restart.clone()));
            if !member.wanted {
                self.stop_for_switch(&member.server, &mut actions);
            }
        }
        for member in members.iter().filter(|member| member.wanted) {
            let server = &member.server;
            if member.changed && self.servers.get(server).is_some_and(ServerState::is_down) {
                // What it was weighed with is no longer what it will be launched with.
                self.admission.release(server, self.now, &mut actions);
            }
            let runs = self.servers.get(server).is_some_and(|state| !state.is_down());
            if member.changed && runs {
                self.stopping_first.insert(server.clone());
                self.with_server(server, &mut actions, |state, actions| state.restart(None, None, actions));
            } else {
                self.with_server(server, &mut actions, |state, actions| state.start(None, actions));
            }
        }
        self.pending_switches.extend(id);
        self.reconcile(&mut actions);
        actions
    }

    /// Whether a command must be refused, and why.
    pub fn refusal(&self, command: &SuperviseCommand) -> Option<Refused> {
        let server = match command {
            SuperviseCommand::ShutDown { .. } => return None,
            SuperviseCommand::StopServer { server, .. } => server,
            _ if self.shutdown.is_some() => {
                return Some(Refused::new(RefusalReason::ShuttingDown, "the daemon is shutting down"));
            }
            SuperviseCommand::StartServer { server } | SuperviseCommand::RestartServer { server, .. } => server,
            SuperviseCommand::ActivateProfile { .. } | SuperviseCommand::Reload { .. } => return None,
        };
        let known = self.servers.contains(server) && !self.removed.contains(server);
        (!known).then(|| {
            let known: Vec<_> = self.servers.servers().map(ServerId::as_str).collect();
            let detail = format!("no server `{server}` is configured; there are: {}", known.join(", "));
            Refused::new(RefusalReason::UnknownServer, detail)
        })
    }

    /// Takes up an accepted command about servers. Its id is the `seq` of its `CommandAccepted`. A change of the
    /// configuration is resolved by the caller and comes in through [`Self::switch`].
    pub fn on_command(&mut self, command: SuperviseCommand, id: Seq, now: Uptime) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        self.now = now;
        let hurry = |force: bool, grace| if force { Some(Duration::ZERO) } else { grace };
        match command {
            SuperviseCommand::StartServer { server } => {
                self.with_server(&server, &mut actions, |state, actions| state.start(Some(id), actions));
            }
            SuperviseCommand::StopServer { server, grace, force } => {
                self.with_server(&server, &mut actions, |state, actions| {
                    state.stop(Some(id), StopReason::Requested, hurry(force, grace), actions);
                });
            }
            SuperviseCommand::RestartServer { server, grace, force } => {
                self.with_server(&server, &mut actions, |state, actions| {
                    state.restart(Some(id), hurry(force, grace), actions);
                });
            }
            SuperviseCommand::ShutDown { trigger, force } => {
                match &mut self.shutdown {
                    Some(shutdown) => shutdown.join(id),
                    None => {
                        self.shutdown = Some(Shutdown::begin(id, now, self.limits.shutdown));
                        actions.push(SupervisorAction::AnnounceStopping { trigger });
                    }
                }
                self.stop_all(force, &mut actions);
            }
            SuperviseCommand::ActivateProfile { .. } | SuperviseCommand::Reload { .. } => {}
        }
        self.reconcile(&mut actions);
        actions
    }

    /// Takes an event in.
    pub fn on_event(&mut self, envelope: &Envelope) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        let (Some(server), Some(incarnation)) = (&envelope.server, envelope.incarnation) else { return actions };
        let input = self.input(envelope.elapsed);
        match envelope.event {
            Event::ServerSpawned { pid, .. } if self.is_current(server, incarnation) => {
                self.admission.on_spawned(server, pid);
            }
            // What it was promised is there now.
            Event::ReadyReached { .. } => self.admission.mark_dirty(),
            _ => {}
        }
        self.with_server(server, &mut actions, |state, actions| match &envelope.event {
            Event::LaunchBegan { .. } => state.on_launch_began(incarnation, actions),
            Event::ServerSpawned { .. } => state.on_spawned(incarnation),
            Event::ReadyReached { .. } => state.on_ready(incarnation, input.now, actions),
            Event::ServerFailed { reason, detail, .. } => {
                state.on_failed(incarnation, (*reason, detail.clone()), input, actions);
            }
            Event::StopBegan { .. } => state.on_stop_began(incarnation),
            Event::ServerExited { end, .. } => state.on_exited(incarnation, *end, input, actions),
            Event::ServerStopped { .. } => state.on_stopped(incarnation, input, actions),
            _ => {}
        });
        self.reconcile(&mut actions);
        actions
    }

    /// The launcher did not take a launch.
    pub fn on_launch_refused(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        refused: &Refused,
        now: Uptime,
    ) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        let input = self.input(now);
        self.with_server(server, &mut actions, |state, actions| {
            state.on_launch_refused(incarnation, refused.to_string(), input, actions);
        });
        self.reconcile(&mut actions);
        actions
    }

    /// What a server will need of memory was found out; `None` where nothing tells.
    pub fn on_estimated(
        &mut self,
        server: &ServerId,
        estimate_id: u64,
        requirement: Option<Demand>,
        now: Uptime,
    ) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        self.now = now;
        self.admission.on_estimated(server, estimate_id, requirement, &mut actions);
        self.reconcile(&mut actions);
        actions
    }

    /// What memory there is was found out.
    pub fn on_memory_read(&mut self, reading: &Reading, now: Uptime) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        self.now = now;
        let reading = self.admission.on_reading().then_some(reading);
        self.reconcile_with(reading, &mut actions);
        actions
    }

    /// Events were missed; the snapshot contains them.
    pub fn on_gap(&mut self, snapshot: &Snapshot) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        self.admission.mark_dirty();
        for (server, record) in &snapshot.servers {
            let input = self.input(snapshot.elapsed);
            if let Some(process) = record.process.as_ref().filter(|_| self.is_current(server, record.incarnation)) {
                self.admission.on_spawned(server, process.pid);
            }
            self.with_server(server, &mut actions, |state, actions| state.on_snapshot(record, input, actions));
        }
        self.reconcile(&mut actions);
        actions
    }

    /// When [`Self::on_deadline`] has something to do.
    pub fn next_deadline(&self) -> Option<Uptime> {
        let restarts = self.servers.values().filter_map(ServerState::restart_at);
        let others = [self.shutdown.as_ref().and_then(Shutdown::next_deadline), self.admission.next_deadline()];
        restarts.chain(others.into_iter().flatten()).min()
    }

    /// Restarts that are due, and launches that wait for memory; and near the shutdown deadline what is left is killed, at it the daemon ends.
    pub fn on_deadline(&mut self, now: Uptime) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        self.now = now;
        self.admission.on_deadline(now);
        let due = |state: &ServerState| state.restart_at().is_some_and(|at| at <= now);
        let servers: Vec<_> =
            self.servers.iter().filter(|(_, state)| due(state)).map(|(server, _)| server.clone()).collect();
        for server in servers {
            self.with_server(&server, &mut actions, |state, _| state.on_deadline(now));
        }
        if self.shutdown.as_mut().is_some_and(|shutdown| shutdown.take_force(now)) {
            self.stop_all(true, &mut actions);
        }
        let left: Vec<_> =
            self.servers.iter().filter(|(_, state)| !state.is_down()).map(|(server, _)| server.clone()).collect();
        if self.shutdown.as_mut().is_some_and(|shutdown| shutdown.take_expired(now)) {
            actions.push(SupervisorAction::AnnounceStopped { survivors: left });
        }
        self.reconcile(&mut actions);
        actions
    }

    /// Whether a server runs or is on its way.
    pub fn is_up(&self, server: &ServerId) -> bool {
        self.servers.get(server).is_some_and(|state| !state.is_down() || state.due_launch().is_some())
    }

    /// Whether a person stopped a server and nobody has asked for it since.
    pub fn is_stopped_by_user(&self, server: &ServerId) -> bool {
        self.servers.get(server).is_some_and(ServerState::is_stopped_by_user)
    }

    /// Consecutive failures of every server that has some.
    pub fn failures(&self) -> BTreeMap<ServerId, u32> {
        let counts = self.servers.iter().map(|(server, state)| (server.clone(), state.failures()));
        counts.filter(|(_, failures)| *failures > 0).collect()
    }

    fn stop_for_switch(&mut self, server: &ServerId, actions: &mut Vec<SupervisorAction>) {
        if self.servers.get(server).is_some_and(|state| !state.is_down()) {
            self.stopping_first.insert(server.clone());
        }
        self.with_server(server, actions, |state, actions| state.stop(None, StopReason::Reconfigured, None, actions));
    }

    fn stop_all(&mut self, force: bool, actions: &mut Vec<SupervisorAction>) {
        let servers: Vec<_> = self.servers.servers().cloned().collect();
        for server in servers {
            self.with_server(&server, actions, |state, actions| {
                state.stop(None, StopReason::Shutdown, force.then_some(Duration::ZERO), actions);
            });
        }
    }

    /// What follows once the servers have taken something in: launches within the limits, servers that are forgotten,
    /// commands about the whole fleet.
    fn reconcile(&mut self, actions: &mut Vec<SupervisorAction>) {
        self.reconcile_with(None, actions);
    }

    fn reconcile_with(&mut self, reading: Option<&Reading>, actions: &mut Vec<SupervisorAction>) {
        let servers = &self.servers;
        self.stopping_first.retain(|server| servers.get(server).is_some_and(|state| !state.is_down()));
        let left: Vec<_> = self
            .removed
            .iter()
            .filter(|server| servers.get(server).is_none_or(ServerState::is_down))
            .cloned()
            .collect();
        for server in left {
            self.removed.remove(&server);
            self.servers.remove(&server);
            self.admission.release(&server, self.now, actions);
            actions.push(SupervisorAction::Forget { server });
        }
        self.release_ended(actions);
        self.admit_launches(reading, actions);
        let arrived = |state: &ServerState| state.starting_for().is_none() && state.due_launch().is_none();
        if self.stopping_first.is_empty() && self.servers.values().all(arrived) {
            for id in self.pending_switches.drain(..) {
                actions.push(SupervisorAction::Complete { server: None, id, outcome: CommandOutcome::Ready });
            }
        }
        let all_down = self.servers.values().all(ServerState::is_down);
        if let Some(ids) = self.shutdown.as_mut().filter(|_| all_down).and_then(Shutdown::complete) {
            for id in ids {
                actions.push(SupervisorAction::Complete { server: None, id, outcome: CommandOutcome::Stopped });
            }
            actions.push(SupervisorAction::AnnounceStopped { survivors: Vec::new() });
        }
    }

    /// Memory that was granted ends with its launch, and a wish for some with the wish for the launch.
    fn release_ended(&mut self, actions: &mut Vec<SupervisorAction>) {
        let is_over = |(server, is_granted): &(&ServerId, bool)| {
            self.servers
                .get(server)
                .is_none_or(|state| state.is_down() && (*is_granted || state.due_launch().is_none()))
        };
        let over: Vec<_> = self.admission.tracked().filter(is_over).map(|(server, _)| server.clone()).collect();
        for server in over {
            self.admission.release(&server, self.now, actions);
        }
    }

    fn admit_launches(&mut self, reading: Option<&Reading>, actions: &mut Vec<SupervisorAction>) {
        for (server, state) in self.servers.iter() {
            if state.due_launch().is_some() && !self.queue.contains(server) {
                self.queue.push_back(server.clone());
            }
        }
        if !self.stopping_first.is_empty() || self.shutdown.is_some() {
            return;
        }
        let mut starting: Vec<StartReason> = self.servers.values().filter_map(ServerState::starting_for).collect();
        let starts = self.limits.starts.unwrap_or(usize::MAX);
        let restarts = self.limits.starts.unwrap_or(RESTARTS_AT_ONCE);
        let stages = self.servers.iter().filter_map(|(server, state)| Some((server.clone(), state.stage()?))).collect();
        let mut pass = self.admission.begin_pass(reading, self.now, stages);
        for server in std::mem::take(&mut self.queue) {
            let Some(start_reason) = self.servers.get(&server).and_then(ServerState::due_launch) else { continue };
            let restarts_under_way =
                starting.iter().filter(|start_reason| **start_reason == StartReason::RestartPolicy).count();
            let is_within_limits =
                starting.len() < starts && (start_reason == StartReason::Requested || restarts_under_way < restarts);
            if !is_within_limits {
                self.queue.push_back(server);
                continue;
            }
            match self.admission.decide(&server, &mut pass, actions) {
                AdmissionDecision::Granted { warning } => {
                    let Some(state) = self.servers.get_mut(&server) else { continue };
                    starting.push(start_reason);
                    actions.push(SupervisorAction::Launch { incarnation: state.launch(warning), server });
                }
                AdmissionDecision::Refused { detail } => {
                    let input = self.input(self.now);
                    self.with_server(&server, actions, |state, actions| state.refuse(detail, input, actions));
                }
                AdmissionDecision::Waiting => self.queue.push_back(server),
            }
        }
        self.admission.end_pass(&pass, actions);
    }

    fn is_current(&self, server: &ServerId, incarnation: Incarnation) -> bool {
        self.servers.get(server).is_some_and(|state| state.incarnation() == incarnation)
    }

    fn input(&mut self, now: Uptime) -> BackoffInput {
        self.now = now;
        BackoffInput { now, jitter: self.rng.f64() }
    }

    fn with_server(
        &mut self,
        server: &ServerId,
        actions: &mut Vec<SupervisorAction>,
        work: impl FnOnce(&mut ServerState, &mut Vec<ServerStateAction>),
    ) {
        let Some(state) = self.servers.get_mut(server) else { return };
        let mut wanted = Vec::new();
        work(state, &mut wanted);
        actions.extend(wanted.into_iter().map(|action| action.of(server.clone())));
    }
}
