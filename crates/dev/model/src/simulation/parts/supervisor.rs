//! The supervisor around its machine.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use llama_warden_bus::{Delivery, EventDraft};
use llama_warden_config::Fleet;
use llama_warden_events::{
    CommandOutcome, Event, Incarnation, LaunchCommand, Refused, RouteCommand, Seq, ServerId, SuperviseCommand,
    TerminateCommand, Uptime,
};
use llama_warden_memory::{Available, Bound, Gpus, MemoryRequirement, Parts, Reading};
use llama_warden_supervisor::{
    FleetActivity, Resolved, ServerPolicy, SupervisorAction, SupervisorLimits, SupervisorMachine, SwitchKind,
    difference,
};
use tokio::sync::watch;

use crate::simulation::Simulation;
use crate::step::{StopHaste, UserCommand};
use crate::{BrokenPromise, SimulatedInbox, SimulatedIncoming, configuration};

/// Bytes of memory that a server needs.
const UNIT: u64 = 1 << 30;

/// Something that comes back to the supervisor.
#[derive(Debug)]
enum SupervisorTask {
    Refused(ServerId, Incarnation, Refused),
    Estimate(ServerId, u64),
    Reading(Vec<u32>),
    /// The router's answer to a release.
    Released(ServerId, Incarnation, Duration, Result<(), Refused>),
    /// A change of profile or configuration, with the request to answer.
    Change(SuperviseCommand, u64),
}

#[derive(Debug)]
pub(crate) struct SupervisorPart {
    pub(crate) machine: SupervisorMachine,
    fleet: watch::Sender<Fleet>,
    inbox: SimulatedInbox<SuperviseCommand>,
    tasks: Vec<SupervisorTask>,
    /// Changes that wait until the one before is applied.
    waiting: VecDeque<(SuperviseCommand, u64)>,
    /// The launches that failed for a file that is watched.
    watches: BTreeMap<ServerId, Incarnation>,
    starts: Option<usize>,
    /// The time of the input that the machine has just got: an event counts from when it happened, not from when it is read.
    input_at: Uptime,
}

impl SupervisorPart {
    pub(crate) fn new(limits: SupervisorLimits, seed: u64, fleet: watch::Sender<Fleet>) -> Self {
        Self {
            starts: limits.starts,
            machine: SupervisorMachine::new(limits, seed),
            fleet,
            inbox: SimulatedInbox::default(),
            tasks: Vec::new(),
            waiting: VecDeque::new(),
            watches: BTreeMap::new(),
            input_at: Uptime::default(),
        }
    }

    pub(crate) fn fleet(&self) -> Fleet {
        self.fleet.borrow().clone()
    }

    pub(crate) fn on_refused(&mut self, server: ServerId, incarnation: Incarnation, refused: Refused) {
        self.tasks.push(SupervisorTask::Refused(server, incarnation, refused));
    }

    pub(crate) fn send(&mut self, bus: &crate::SimulatedBus, command: UserCommand, request: u64) {
        let grace_of = |haste| (haste == StopHaste::Short).then_some(Duration::from_secs(1));
        let command = match command {
            UserCommand::Start(server) => SuperviseCommand::StartServer { server: configuration::server(server) },
            UserCommand::Stop(server, haste) => SuperviseCommand::StopServer {
                server: configuration::server(server),
                grace: grace_of(haste),
                force: haste == StopHaste::Forced,
            },
            UserCommand::Restart(server, haste) => SuperviseCommand::RestartServer {
                server: configuration::server(server),
                grace: grace_of(haste),
                force: haste == StopHaste::Forced,
            },
            UserCommand::Unload(server) => SuperviseCommand::UnloadServer { server: configuration::server(server) },
            UserCommand::Reload => SuperviseCommand::Reload { trigger: "test".to_owned(), force: true },
            UserCommand::Profile(bits) => {
                SuperviseCommand::ActivateProfile { profile: Some(bits.to_string()), dry_run: false }
            }
            UserCommand::Preview(bits) => {
                SuperviseCommand::ActivateProfile { profile: Some(bits.to_string()), dry_run: true }
            }
            UserCommand::ShutDown(haste) => {
                SuperviseCommand::ShutDown { trigger: "test".to_owned(), force: haste == StopHaste::Forced }
            }
        };
        self.send_command(bus, command, request);
    }

    pub(crate) fn send_command(&mut self, bus: &crate::SimulatedBus, command: SuperviseCommand, request: u64) {
        self.inbox.send(bus, command, None, request);
    }

    pub(crate) fn on_release_answered(
        &mut self,
        server: ServerId,
        incarnation: Incarnation,
        drain: Duration,
        answer: Result<(), Refused>,
    ) {
        self.tasks.push(SupervisorTask::Released(server, incarnation, drain, answer));
    }

    fn activity(&self) -> FleetActivity {
        FleetActivity::of(&self.machine, &self.fleet())
    }

    /// Begins the next change, unless one is being resolved.
    fn begin_change(&mut self) {
        let is_resolving = self.tasks.iter().any(|task| matches!(task, SupervisorTask::Change(..)));
        if let Some((command, request)) = self.waiting.pop_front_if(|_| !is_resolving) {
            self.tasks.push(SupervisorTask::Change(command, request));
        }
    }
}

impl Simulation {
    pub(crate) fn start_supervisor(&mut self) -> Result<(), BrokenPromise> {
        let fleet = self.fleet();
        for spec in fleet.iter() {
            self.supervisor.machine.add(spec.id.clone(), ServerPolicy::from(&**spec), 0);
            self.publish(EventDraft::server(spec.id.clone(), Event::ServerConfigured { card: spec.card().into() }));
        }
        self.publish(EventDraft::daemon(Event::ProfilesConfigured { profiles: Vec::new() }));
        let enabled = fleet.iter().filter(|spec| spec.enabled);
        let actions = self.supervisor.machine.start_all(enabled.map(|spec| &spec.id));
        self.perform_supervisor(actions, None)
    }

    pub(crate) fn read_supervisor(&mut self, command_first: bool) -> Result<bool, BrokenPromise> {
        match self.supervisor.inbox.read(&self.bus, command_first) {
            None => return Ok(false),
            Some(SimulatedIncoming::Delivery(delivery)) => self.deliver_to_supervisor(&delivery)?,
            Some(SimulatedIncoming::Command(sent)) => self.command_supervisor(sent.command, sent.request)?,
        }
        Ok(true)
    }

    pub(crate) fn miss_supervisor(&mut self) -> Result<bool, BrokenPromise> {
        let Some(gap) = self.supervisor.inbox.miss(&self.bus) else { return Ok(false) };
        self.deliver_to_supervisor(&gap)?;
        Ok(true)
    }

    fn deliver_to_supervisor(&mut self, delivery: &Delivery) -> Result<(), BrokenPromise> {
        let (actions, cause) = match delivery {
            Delivery::Event(envelope) => {
                self.promises.on_read(envelope);
                self.supervisor.input_at = envelope.elapsed;
                (self.supervisor.machine.on_event(envelope), Some(envelope.seq))
            }
            Delivery::Gap { snapshot, .. } => {
                self.promises.on_missed(snapshot);
                self.supervisor.input_at = snapshot.elapsed;
                (self.supervisor.machine.on_gap(snapshot), None)
            }
        };
        self.perform_supervisor(actions, cause)?;
        self.supervisor.input_at = self.now;
        Ok(())
    }

    fn command_supervisor(&mut self, command: SuperviseCommand, request: u64) -> Result<(), BrokenPromise> {
        if self.supervisor.machine.refusal(&command, self.now).is_some() {
            self.promises.on_reply(request);
            if let SuperviseCommand::WantServer { server, .. } = &command {
                self.on_want_refused(server);
            }
            return Ok(());
        }
        if let SuperviseCommand::WantServer { .. } | SuperviseCommand::UnwantServer { .. } = command {
            self.promises.on_reply(request);
            self.promises.on_command(&command);
            let actions = self.supervisor.machine.on_command(command, Seq::default(), self.now);
            return self.perform_supervisor(actions, None);
        }
        if matches!(command, SuperviseCommand::Reload { .. } | SuperviseCommand::ActivateProfile { .. }) {
            self.supervisor.waiting.push_back((command, request));
            self.supervisor.begin_change();
            return Ok(());
        }
        if let SuperviseCommand::ShutDown { .. } = command {
            let mut cancelled: Vec<u64> = self.supervisor.waiting.drain(..).map(|(_, request)| request).collect();
            self.supervisor.tasks.retain(|task| match task {
                SupervisorTask::Change(_, request) => {
                    cancelled.push(*request);
                    false
                }
                _ => true,
            });
            cancelled.into_iter().for_each(|request| self.promises.on_reply(request));
        }
        let id = self.accept(&command)?;
        self.promises.on_command(&command);
        let actions = self.supervisor.machine.on_command(command, id, self.now);
        self.promises.on_reply(request);
        self.perform_supervisor(actions, Some(id))
    }

    fn accept(&mut self, command: &SuperviseCommand) -> Result<Seq, BrokenPromise> {
        let server = command.server().cloned();
        let event = Event::CommandAccepted { command: command.summary(), trace: None };
        self.publish_acked(EventDraft { server, incarnation: None, cause: None, event })
    }

    pub(crate) fn deadline_supervisor(&mut self) -> Result<(), BrokenPromise> {
        let actions = self.supervisor.machine.on_deadline(self.now);
        self.perform_supervisor(actions, None)
    }

    pub(crate) fn change_file(&mut self, server: &ServerId) -> Result<bool, BrokenPromise> {
        let Some(incarnation) = self.supervisor.watches.remove(server) else { return Ok(false) };
        self.promises.on_file_changed(server);
        let actions = self.supervisor.machine.on_file_changed(server, incarnation, self.now);
        self.perform_supervisor(actions, None)?;
        Ok(true)
    }

    pub(crate) fn finish_supervisor(&mut self, task: usize) -> Result<bool, BrokenPromise> {
        if self.supervisor.tasks.is_empty() {
            return Ok(false);
        }
        let task = self.supervisor.tasks.remove(task % self.supervisor.tasks.len());
        self.supervisor.input_at = self.now;
        let (machine, now) = (&mut self.supervisor.machine, self.now);
        let actions = match task {
            SupervisorTask::Refused(server, incarnation, refused) => {
                self.promises.on_loaded(&server, incarnation);
                machine.on_launch_refused(&server, incarnation, &refused, now)
            }
            SupervisorTask::Estimate(server, estimate_id) => {
                let host = Parts { weights: UNIT, ..Parts::default() };
                let requirement = MemoryRequirement { host, ..MemoryRequirement::default() };
                machine.on_estimated(&server, estimate_id, Some(requirement), now)
            }
            SupervisorTask::Reading(pids) => {
                let used = self.world.processes.len() as u64;
                let bytes = self.world.free_memory.saturating_sub(used) * UNIT;
                let reading = Reading {
                    host: Some(Available { bytes, total: bytes, bound: Bound::Machine }),
                    gpus: Gpus::Absent,
                    resident: pids.into_iter().map(|pid| (pid, UNIT)).collect(),
                };
                machine.on_memory_read(&reading, now)
            }
            SupervisorTask::Released(server, incarnation, drain, answer) => {
                machine.on_release_answered(&server, (incarnation, drain), answer.as_ref().copied(), now)
            }
            SupervisorTask::Change(command, request) => {
                self.apply_change(&command, request)?;
                self.supervisor.begin_change();
                return Ok(true);
            }
        };
        self.perform_supervisor(actions, None)?;
        Ok(true)
    }

    /// Resolves a change with the files of this moment, and applies it.
    fn apply_change(&mut self, command: &SuperviseCommand, request: u64) -> Result<(), BrokenPromise> {
        let is_reload = matches!(command, SuperviseCommand::Reload { .. });
        if is_reload && !self.file.is_valid {
            self.promises.on_reply(request);
            let (trigger, detail) = ("test".to_owned(), "invalid".to_owned());
            self.publish(EventDraft::daemon(Event::ConfigurationRefused { trigger, detail }));
            return Ok(());
        }
        let (mut states, mut profile, mut is_preview) = (self.file.in_force, self.file.profile, false);
        if let SuperviseCommand::ActivateProfile { profile: name, dry_run } = command {
            profile = name.as_ref().and_then(|name| name.parse().ok()).unwrap_or_default();
            is_preview = *dry_run;
        } else {
            states = self.file.states;
        }
        let next = Resolved { fleet: configuration::fleet(states, profile), ..Resolved::default() };
        let id = self.accept(command)?;
        self.promises.on_reply(request);
        let kind = if is_reload { SwitchKind::Reload } else { SwitchKind::Profile };
        let activity = self.supervisor.activity();
        let difference = difference(&activity, &next, kind);
        self.publish(EventDraft::daemon(Event::SwitchPlanned { plan: difference.plan.into() }).because(id));
        if is_preview {
            let outcome = CommandOutcome::Ready;
            self.publish(EventDraft::daemon(Event::CommandCompleted { outcome }).because(id));
            return Ok(());
        }
        (self.file.in_force, self.file.profile) = (states, profile);
        self.promises.on_switch(&activity.fleet, &next.fleet, kind);
        self.supervisor.fleet.send_replace(next.fleet.clone());
        for spec in next.fleet.iter() {
            let card = spec.card();
            if activity.fleet.get(spec.id.as_str()).is_none_or(|old| old.card() != card) {
                let configured = Event::ServerConfigured { card: card.into() };
                self.publish(EventDraft::server(spec.id.clone(), configured).because(id));
            }
        }
        let changed = match command {
            SuperviseCommand::Reload { trigger, .. } => Event::ConfigurationReloaded { trigger: trigger.clone() },
            _ => Event::ProfileActivated { profile: None },
        };
        self.publish(EventDraft::daemon(changed).because(id));
        let actions = self.supervisor.machine.switch(&difference.servers, Some(id), self.now);
        self.perform_supervisor(actions, Some(id))
    }

    fn perform_supervisor(&mut self, actions: Vec<SupervisorAction>, cause: Option<Seq>) -> Result<(), BrokenPromise> {
        let fleet = self.fleet();
        for action in actions {
            match action {
                SupervisorAction::Launch { server, incarnation } => {
                    self.supervisor.watches.remove(&server);
                    if let Some(spec) = fleet.get(server.as_str()) {
                        let (starts, now) = (self.supervisor.starts, self.now);
                        self.promises.on_launch(&server, incarnation, &spec.restart, starts, now)?;
                    }
                    let command = LaunchCommand::LaunchServer { server, incarnation };
                    self.launcher.inbox.send(&self.bus, command, cause, 0);
                }
                SupervisorAction::Terminate { server, incarnation, reason, grace } => {
                    self.promises.on_loaded(&server, incarnation);
                    self.router.on_terminate((&server, incarnation), reason, grace, self.now)?;
                    let command = TerminateCommand::TerminateServer { server, incarnation, reason, grace };
                    self.terminator.inbox.send(&self.bus, command, cause, 0);
                }
                SupervisorAction::Release { server, incarnation, drain } => {
                    if !drain.is_zero() {
                        self.router.on_release_sent(&server, incarnation, self.now + drain);
                    }
                    let command = RouteCommand::ReleaseServer { server, incarnation, drain };
                    self.router.inbox.send(&self.bus, command, cause, 0);
                }
                SupervisorAction::Reopen { server, incarnation } => {
                    let command = RouteCommand::ReopenServer { server, incarnation };
                    self.router.inbox.send(&self.bus, command, cause, 0);
                }
                SupervisorAction::EstimateMemory { server, estimate_id } => {
                    self.supervisor.tasks.push(SupervisorTask::Estimate(server, estimate_id));
                }
                SupervisorAction::ReadMemory { pids } => self.supervisor.tasks.push(SupervisorTask::Reading(pids)),
                SupervisorAction::WatchFile { server, incarnation, .. } => {
                    self.supervisor.watches.insert(server, incarnation);
                }
                SupervisorAction::Publish { server, incarnation, event } => {
                    let spec = server.as_ref().and_then(|server| fleet.get(server.as_str()));
                    let restart = spec.map(|spec| &*spec.restart);
                    let at = self.supervisor.input_at;
                    self.promises.on_decision(server.as_ref(), &event, restart, at)?;
                    self.publish(EventDraft { server, incarnation, cause, event });
                }
                SupervisorAction::Complete { server, id, outcome } => {
                    let event = Event::CommandCompleted { outcome };
                    self.publish(EventDraft { server, incarnation: None, cause: Some(id), event });
                }
            }
        }
        Ok(())
    }
}
