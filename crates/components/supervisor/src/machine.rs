//! The whole fleet as a plain state machine: wishes and events in, actions out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use llama_warden_config::{AdmissionPolicy, RestartSpec};
use llama_warden_events::{
    CommandOutcome, Envelope, Event, Incarnation, RefusalReason, Refused, Seq, ServerId, StopReason, SuperviseCommand,
    Uptime,
};
use llama_warden_memory::{MemoryRequirement, Reading};
use llama_warden_state::Snapshot;

use crate::action::{Action, SlotAction};
use crate::admission::{Admission, Judgement};
use crate::shutdown::Shutdown;
use crate::slot::{Moment, Slot, Wish};
use crate::slots::Slots;

/// How many servers policy brings back at a time where `start.max-concurrent` sets no limit: N servers that failed
/// together would otherwise load together, with the memory and the disk of one machine.
pub const RESTARTS_AT_ONCE: usize = 2;

/// What a configuration says of one server, as far as the supervisor needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Which.
    pub server: ServerId,
    /// When it is started again.
    pub restart: Arc<RestartSpec>,
    /// Whether it should run.
    pub wanted: bool,
    /// Whether a running process of it no longer fits the configuration.
    pub changed: bool,
}

/// How the machine is set up.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest time from the wish to shut down to the end.
    pub shutdown: Duration,
    /// How many servers may load at a time; `None` is all.
    pub starts: Option<usize>,
    /// What happens when the estimated memory does not suffice.
    pub memory: AdmissionPolicy,
}

/// The fleet.
#[derive(Debug)]
pub struct Machine {
    slots: Slots,
    /// Servers whose launch is due, in the order of the wishes.
    queue: VecDeque<ServerId>,
    /// Servers that must be down before anything is launched: a switch frees memory before it needs it.
    holding: BTreeSet<ServerId>,
    /// Servers that are forgotten once they are down.
    leaving: BTreeSet<ServerId>,
    /// Commands about the whole fleet that end when every wanted server has.
    switches: Vec<Seq>,
    shutdown: Option<Shutdown>,
    limits: Limits,
    admission: Admission,
    /// The latest time that was told; what is told without one happens then.
    now: Uptime,
    /// Seeded, so that the machine stays a function of what it is given.
    chance: fastrand::Rng,
}

impl Machine {
    /// A fleet of which nothing runs. Back-offs are drawn from `seed`.
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            slots: Slots::default(),
            queue: VecDeque::new(),
            holding: BTreeSet::new(),
            leaving: BTreeSet::new(),
            switches: Vec::new(),
            shutdown: None,
            admission: Admission::new(limits.memory),
            limits,
            now: Uptime::default(),
            chance: fastrand::Rng::with_seed(seed),
        }
    }

    /// Adds a server that was never launched, with the consecutive failures of an earlier run.
    pub fn add(&mut self, server: ServerId, restart: Arc<RestartSpec>, failures: u32) {
        self.leaving.remove(&server);
        self.slots.add(server, || Slot::new(restart, failures));
    }

    /// Starts these servers.
    pub fn start_all<'a>(&mut self, servers: impl IntoIterator<Item = &'a ServerId>) -> Vec<Action> {
        let mut actions = Vec::new();
        for server in servers {
            self.with_slot(server, &mut actions, |slot, actions| slot.start(None, actions));
        }
        self.settle(&mut actions);
        actions
    }

    /// Brings the fleet to what a configuration says. Servers that it does not name leave; a server that is wanted and
    /// unchanged is not touched. `id` is answered when every wanted server is ready or has failed.
    pub fn switch(&mut self, members: &[Member], id: Option<Seq>) -> Vec<Action> {
        let mut actions = Vec::new();
        let named: BTreeSet<_> = members.iter().map(|member| &member.server).collect();
        let gone: Vec<_> = self.slots.servers().filter(|server| !named.contains(server)).cloned().collect();
        for server in gone {
            self.leaving.insert(server.clone());
            self.stop_for_switch(&server, &mut actions);
        }
        for member in members {
            self.add(member.server.clone(), member.restart.clone(), 0);
            self.with_slot(&member.server, &mut actions, |slot, _| slot.set_restart(member.restart.clone()));
            if !member.wanted {
                self.stop_for_switch(&member.server, &mut actions);
            }
        }
        for member in members.iter().filter(|member| member.wanted) {
            let server = &member.server;
            if member.changed && self.slots.get(server).is_some_and(Slot::is_down) {
                // What it was weighed with is no longer what it will be launched with.
                self.admission.close(server, self.now, &mut actions);
            }
            let runs = self.slots.get(server).is_some_and(|slot| !slot.is_down());
            if member.changed && runs {
                self.holding.insert(server.clone());
                self.with_slot(server, &mut actions, |slot, actions| slot.restart(None, None, actions));
            } else {
                self.with_slot(server, &mut actions, |slot, actions| slot.start(None, actions));
            }
        }
        self.switches.extend(id);
        self.settle(&mut actions);
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
        let known = self.slots.contains(server) && !self.leaving.contains(server);
        (!known).then(|| {
            let known: Vec<_> = self.slots.servers().map(ServerId::as_str).collect();
            let detail = format!("no server `{server}` is configured; there are: {}", known.join(", "));
            Refused::new(RefusalReason::UnknownServer, detail)
        })
    }

    /// Takes up an accepted command about servers. Its id is the `seq` of its `CommandAccepted`. A change of the
    /// configuration is resolved by the caller and comes in through [`Self::switch`].
    pub fn on_command(&mut self, command: SuperviseCommand, id: Seq, now: Uptime) -> Vec<Action> {
        let mut actions = Vec::new();
        self.now = now;
        let hurry = |force: bool, grace| if force { Some(Duration::ZERO) } else { grace };
        match command {
            SuperviseCommand::StartServer { server } => {
                self.with_slot(&server, &mut actions, |slot, actions| slot.start(Some(id), actions));
            }
            SuperviseCommand::StopServer { server, grace, force } => {
                self.with_slot(&server, &mut actions, |slot, actions| {
                    slot.stop(Some(id), StopReason::Requested, hurry(force, grace), actions);
                });
            }
            SuperviseCommand::RestartServer { server, grace, force } => {
                self.with_slot(&server, &mut actions, |slot, actions| {
                    slot.restart(Some(id), hurry(force, grace), actions);
                });
            }
            SuperviseCommand::ShutDown { trigger, force } => {
                match &mut self.shutdown {
                    Some(shutdown) => shutdown.join(id),
                    None => {
                        self.shutdown = Some(Shutdown::begin(id, now, self.limits.shutdown));
                        actions.push(Action::AnnounceStopping { trigger });
                    }
                }
                self.stop_all(force, &mut actions);
            }
            SuperviseCommand::ActivateProfile { .. } | SuperviseCommand::Reload { .. } => {}
        }
        self.settle(&mut actions);
        actions
    }

    /// Takes an event in.
    pub fn on_event(&mut self, envelope: &Envelope) -> Vec<Action> {
        let mut actions = Vec::new();
        let (Some(server), Some(incarnation)) = (&envelope.server, envelope.incarnation) else { return actions };
        let moment = self.moment(envelope.elapsed);
        match envelope.event {
            Event::ServerSpawned { pid, .. } if self.is_current(server, incarnation) => {
                self.admission.on_spawned(server, pid);
            }
            // What it was promised is there now.
            Event::ReadyReached { .. } => self.admission.stir(),
            _ => {}
        }
        self.with_slot(server, &mut actions, |slot, actions| match &envelope.event {
            Event::LaunchBegan { .. } => slot.on_launch_began(incarnation, actions),
            Event::ServerSpawned { .. } => slot.on_spawned(incarnation),
            Event::ReadyReached { .. } => slot.on_ready(incarnation, moment.now, actions),
            Event::ServerFailed { reason, detail, .. } => {
                slot.on_failed(incarnation, (*reason, detail.clone()), moment, actions);
            }
            Event::StopBegan { .. } => slot.on_stop_began(incarnation),
            Event::ServerExited { end, .. } => slot.on_exited(incarnation, *end, moment, actions),
            Event::ServerStopped { .. } => slot.on_stopped(incarnation, moment, actions),
            _ => {}
        });
        self.settle(&mut actions);
        actions
    }

    /// The launcher did not take a launch.
    pub fn on_launch_refused(
        &mut self,
        server: &ServerId,
        incarnation: Incarnation,
        refused: &Refused,
        now: Uptime,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        let moment = self.moment(now);
        self.with_slot(server, &mut actions, |slot, actions| {
            slot.on_launch_refused(incarnation, refused.to_string(), moment, actions);
        });
        self.settle(&mut actions);
        actions
    }

    /// What a server will need of memory was found out; `None` where nothing tells.
    pub fn on_estimated(
        &mut self,
        server: &ServerId,
        ticket: u64,
        demand: Option<MemoryRequirement>,
        now: Uptime,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        self.now = now;
        self.admission.on_estimated(server, ticket, demand, &mut actions);
        self.settle(&mut actions);
        actions
    }

    /// What memory there is was found out.
    pub fn on_memory_read(&mut self, reading: &Reading, now: Uptime) -> Vec<Action> {
        let mut actions = Vec::new();
        self.now = now;
        let reading = self.admission.on_reading().then_some(reading);
        self.settle_with(reading, &mut actions);
        actions
    }

    /// Events were missed; the snapshot contains them.
    pub fn on_gap(&mut self, snapshot: &Snapshot) -> Vec<Action> {
        let mut actions = Vec::new();
        self.admission.stir();
        for (server, record) in &snapshot.servers {
            let moment = self.moment(snapshot.elapsed);
            if let Some(process) = record.process.as_ref().filter(|_| self.is_current(server, record.incarnation)) {
                self.admission.on_spawned(server, process.pid);
            }
            self.with_slot(server, &mut actions, |slot, actions| slot.recall(record, moment, actions));
        }
        self.settle(&mut actions);
        actions
    }

    /// When [`Self::on_deadline`] has something to do.
    pub fn next_deadline(&self) -> Option<Uptime> {
        let restarts = self.slots.values().filter_map(Slot::restart_at);
        let others = [self.shutdown.as_ref().and_then(Shutdown::next_deadline), self.admission.next_deadline()];
        restarts.chain(others.into_iter().flatten()).min()
    }

    /// Restarts that are due, and launches that wait for memory; and near the shutdown deadline what is left is killed, at it the daemon ends.
    pub fn on_deadline(&mut self, now: Uptime) -> Vec<Action> {
        let mut actions = Vec::new();
        self.now = now;
        self.admission.on_deadline(now);
        let due = |slot: &Slot| slot.restart_at().is_some_and(|at| at <= now);
        let servers: Vec<_> =
            self.slots.iter().filter(|(_, slot)| due(slot)).map(|(server, _)| server.clone()).collect();
        for server in servers {
            self.with_slot(&server, &mut actions, |slot, _| slot.on_deadline(now));
        }
        if self.shutdown.as_mut().is_some_and(|shutdown| shutdown.forces(now)) {
            self.stop_all(true, &mut actions);
        }
        let left: Vec<_> =
            self.slots.iter().filter(|(_, slot)| !slot.is_down()).map(|(server, _)| server.clone()).collect();
        if self.shutdown.as_mut().is_some_and(|shutdown| shutdown.gives_up(now)) {
            actions.push(Action::AnnounceStopped { survivors: left });
        }
        self.settle(&mut actions);
        actions
    }

    /// Whether a server runs or is on its way.
    pub fn is_up(&self, server: &ServerId) -> bool {
        self.slots.get(server).is_some_and(|slot| !slot.is_down() || slot.awaits_launch().is_some())
    }

    /// Whether a person stopped a server and nobody has asked for it since.
    pub fn is_held(&self, server: &ServerId) -> bool {
        self.slots.get(server).is_some_and(Slot::is_held)
    }

    /// Consecutive failures of every server that has some.
    pub fn failures(&self) -> BTreeMap<ServerId, u32> {
        let counts = self.slots.iter().map(|(server, slot)| (server.clone(), slot.failures()));
        counts.filter(|(_, failures)| *failures > 0).collect()
    }

    fn stop_for_switch(&mut self, server: &ServerId, actions: &mut Vec<Action>) {
        if self.slots.get(server).is_some_and(|slot| !slot.is_down()) {
            self.holding.insert(server.clone());
        }
        self.with_slot(server, actions, |slot, actions| slot.stop(None, StopReason::Reconfigured, None, actions));
    }

    fn stop_all(&mut self, force: bool, actions: &mut Vec<Action>) {
        let servers: Vec<_> = self.slots.servers().cloned().collect();
        for server in servers {
            self.with_slot(&server, actions, |slot, actions| {
                slot.stop(None, StopReason::Shutdown, force.then_some(Duration::ZERO), actions);
            });
        }
    }

    /// What follows once the slots have taken something in: launches within the limits, servers that are forgotten,
    /// commands about the whole fleet.
    fn settle(&mut self, actions: &mut Vec<Action>) {
        self.settle_with(None, actions);
    }

    fn settle_with(&mut self, reading: Option<&Reading>, actions: &mut Vec<Action>) {
        let slots = &self.slots;
        self.holding.retain(|server| slots.get(server).is_some_and(|slot| !slot.is_down()));
        let left: Vec<_> =
            self.leaving.iter().filter(|server| slots.get(server).is_none_or(Slot::is_down)).cloned().collect();
        for server in left {
            self.leaving.remove(&server);
            self.slots.remove(&server);
            self.admission.close(&server, self.now, actions);
            actions.push(Action::Forget { server });
        }
        self.close_accounts(actions);
        self.admit(reading, actions);
        let arrived = |slot: &Slot| slot.rises_for().is_none() && slot.awaits_launch().is_none();
        if self.holding.is_empty() && self.slots.values().all(arrived) {
            for id in self.switches.drain(..) {
                actions.push(Action::Complete { server: None, id, outcome: CommandOutcome::Ready });
            }
        }
        let all_down = self.slots.values().all(Slot::is_down);
        if let Some(ids) = self.shutdown.as_mut().filter(|_| all_down).and_then(Shutdown::complete) {
            for id in ids {
                actions.push(Action::Complete { server: None, id, outcome: CommandOutcome::Stopped });
            }
            actions.push(Action::AnnounceStopped { survivors: Vec::new() });
        }
    }

    /// Memory that was granted ends with its launch, and a wish for some with the wish for the launch.
    fn close_accounts(&mut self, actions: &mut Vec<Action>) {
        let is_over = |(server, is_granted): &(&ServerId, bool)| {
            self.slots.get(server).is_none_or(|slot| slot.is_down() && (*is_granted || slot.awaits_launch().is_none()))
        };
        let over: Vec<_> = self.admission.accounts().filter(is_over).map(|(server, _)| server.clone()).collect();
        for server in over {
            self.admission.close(&server, self.now, actions);
        }
    }

    fn admit(&mut self, reading: Option<&Reading>, actions: &mut Vec<Action>) {
        for (server, slot) in self.slots.iter() {
            if slot.awaits_launch().is_some() && !self.queue.contains(server) {
                self.queue.push_back(server.clone());
            }
        }
        if !self.holding.is_empty() || self.shutdown.is_some() {
            return;
        }
        let mut rising: Vec<Wish> = self.slots.values().filter_map(Slot::rises_for).collect();
        let starts = self.limits.starts.unwrap_or(usize::MAX);
        let restarts = self.limits.starts.unwrap_or(RESTARTS_AT_ONCE);
        let stages = self.slots.iter().filter_map(|(server, slot)| Some((server.clone(), slot.stage()?))).collect();
        let mut round = self.admission.begin(reading, self.now, stages);
        for server in std::mem::take(&mut self.queue) {
            let Some(wish) = self.slots.get(&server).and_then(Slot::awaits_launch) else { continue };
            let of_policy = rising.iter().filter(|wish| **wish == Wish::Policy).count();
            let is_within_limits = rising.len() < starts && (wish == Wish::Asked || of_policy < restarts);
            if !is_within_limits {
                self.queue.push_back(server);
                continue;
            }
            match self.admission.judge(&server, &mut round, actions) {
                Judgement::Granted { warning } => {
                    let Some(slot) = self.slots.get_mut(&server) else { continue };
                    rising.push(wish);
                    actions.push(Action::Launch { incarnation: slot.launch(warning), server });
                }
                Judgement::Refused { detail } => {
                    let moment = self.moment(self.now);
                    self.with_slot(&server, actions, |slot, actions| slot.refuse(detail, moment, actions));
                }
                Judgement::Waiting => self.queue.push_back(server),
            }
        }
        self.admission.end(&round, actions);
    }

    fn is_current(&self, server: &ServerId, incarnation: Incarnation) -> bool {
        self.slots.get(server).is_some_and(|slot| slot.incarnation() == incarnation)
    }

    fn moment(&mut self, now: Uptime) -> Moment {
        self.now = now;
        Moment { now, draw: self.chance.f64() }
    }

    fn with_slot(
        &mut self,
        server: &ServerId,
        actions: &mut Vec<Action>,
        work: impl FnOnce(&mut Slot, &mut Vec<SlotAction>),
    ) {
        let Some(slot) = self.slots.get_mut(server) else { return };
        let mut wanted = Vec::new();
        work(slot, &mut wanted);
        actions.extend(wanted.into_iter().map(|action| action.of(server.clone())));
    }
}
