//! A simulated machine with little memory. It answers the queries of the supervisor's machine.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use llama_warden_config::{AdmissionPolicy, RestartPolicy};
use llama_warden_events::{
    CommandOutcome, Event, Incarnation, ProcessEnd, ReadyVia, Seq, ServerId, StopReason, SuperviseCommand, Uptime,
};
use llama_warden_memory::{Available, Bound, Gpu, Gpus, MemoryRequirement, Parts, Reading};
use llama_warden_supervisor::{SupervisorAction, SupervisorMachine};

use crate::fixtures::{self, envelope, id, machine_with_memory, release_all};

/// Bytes of one unit; servers need whole units.
pub const UNIT: u64 = 1 << 30;

/// A machine with `total` units of memory. The test publishes the events of the launches.
pub struct MemorySimulation {
    pub machine: SupervisorMachine,
    pub seq: u64,
    pub now: f64,
    pub total: u64,
    /// Units that processes other than the servers hold.
    pub used_by_others: u64,
    /// Free units of GPUs; `None` for a machine without GPUs.
    pub gpus: Option<u64>,
    pub requirements: BTreeMap<ServerId, Option<MemoryRequirement>>,
    /// By pid: the server, its launch, and the units that it holds.
    pub processes: BTreeMap<u32, (ServerId, Incarnation, u64)>,
    pub launched: Vec<String>,
    pub events: Vec<(ServerId, Event)>,
    pub outcomes: BTreeMap<Seq, CommandOutcome>,
    pub queries: VecDeque<SupervisorAction>,
}

impl MemorySimulation {
    pub fn new(total: u64, memory: AdmissionPolicy, servers: &[(&str, u64)]) -> Self {
        Self::with_policy(total, memory, RestartPolicy::Never, servers)
    }

    pub fn with_policy(total: u64, memory: AdmissionPolicy, policy: RestartPolicy, servers: &[(&str, u64)]) -> Self {
        let mut machine = machine_with_memory(None, memory);
        for (name, _) in servers {
            machine.add(id(name), fixtures::policy(policy), 0);
        }
        let demand = |units: u64| MemoryRequirement {
            host: Parts { weights: units * UNIT, ..Parts::default() },
            ..MemoryRequirement::default()
        };
        Self {
            machine,
            seq: 0,
            now: 0.0,
            total,
            used_by_others: 0,
            gpus: None,
            requirements: servers.iter().map(|(name, units)| (id(name), Some(demand(*units)))).collect(),
            processes: BTreeMap::new(),
            launched: Vec::new(),
            events: Vec::new(),
            outcomes: BTreeMap::new(),
            queries: VecDeque::new(),
        }
    }

    /// A machine whose GPUs have this many free units, and a server `a` that needs six of them.
    pub fn on_gpus(memory: AdmissionPolicy, free: u64) -> Self {
        let mut simulation = Self::new(10, memory, &[("a", 0)]);
        let gpus = Parts { weights: 6 * UNIT, ..Parts::default() };
        simulation.requirements.insert(id("a"), Some(MemoryRequirement { gpus, ..MemoryRequirement::default() }));
        simulation.gpus = Some(free);
        simulation
    }

    pub fn elapsed(&self) -> Uptime {
        Uptime::new(Duration::from_secs_f64(self.now))
    }

    pub fn perform(&mut self, actions: Vec<SupervisorAction>) {
        let now = self.elapsed();
        for action in release_all(&mut self.machine, actions, now) {
            match action {
                SupervisorAction::Launch { server, incarnation } => {
                    self.launched.push(format!("{server}#{incarnation}"))
                }
                SupervisorAction::Publish { server: Some(server), event, .. } => self.events.push((server, event)),
                SupervisorAction::Complete { id, outcome, .. } => drop(self.outcomes.insert(id, outcome)),
                SupervisorAction::EstimateMemory { .. } | SupervisorAction::ReadMemory { .. } => {
                    self.queries.push_back(action)
                }
                _ => {}
            }
        }
    }

    /// Answers the oldest query; false if there is none.
    pub fn answer_next(&mut self) -> bool {
        let actions = match self.queries.pop_front() {
            Some(SupervisorAction::EstimateMemory { server, estimate_id }) => {
                let demand = self.requirements[&server].clone();
                self.machine.on_estimated(&server, estimate_id, demand, self.elapsed())
            }
            Some(SupervisorAction::ReadMemory { pids }) => {
                let reading = self.reading(&pids);
                self.machine.on_memory_read(&reading, self.elapsed())
            }
            _ => return false,
        };
        self.perform(actions);
        true
    }

    pub fn reading(&self, pids: &[u32]) -> Reading {
        let used: u64 = self.processes.values().map(|(_, _, units)| units).sum();
        let bytes = self.total.saturating_sub(used + self.used_by_others) * UNIT;
        let resident = |pid: &u32| Some((*pid, self.processes.get(pid)?.2 * UNIT));
        let gpu = |free: u64| Gpu { name: "g".to_owned(), free: free * UNIT, total: u64::MAX };
        Reading {
            host: Some(Available { bytes, total: u64::MAX, bound: Bound::Machine }),
            gpus: self.gpus.map_or(Gpus::Absent, |free| Gpus::Measured(vec![gpu(free)])),
            resident: pids.iter().filter_map(resident).collect(),
        }
    }

    /// Answers all queries and returns what was launched since the last call.
    pub fn answer_all(&mut self) -> Vec<String> {
        while self.answer_next() {}
        std::mem::take(&mut self.launched)
    }

    pub fn start(&mut self, names: &[&str]) -> Vec<String> {
        let names: Vec<_> = names.iter().map(|name| id(name)).collect();
        let actions = self.machine.start_all(&names);
        self.perform(actions);
        self.answer_all()
    }

    /// Takes over a process that an earlier daemon left, which is ready and holds this many units.
    pub fn adopt(&mut self, name: &str, units: u64) {
        let actions = self.machine.adopt(&id(name), Incarnation::new(1));
        self.perform(actions);
        self.spawn(name, 1, units);
        self.publish(name, 1, [Event::ReadyReached { via: ReadyVia::Adopted, startup_seconds: 0.01 }]);
        self.answer_all();
    }

    pub fn command(&mut self, command: SuperviseCommand) -> Seq {
        self.seq += 1;
        let actions = self.machine.on_command(command, Seq::new(self.seq), self.elapsed());
        self.perform(actions);
        Seq::new(self.seq)
    }

    pub fn stop(&mut self, name: &str) -> Seq {
        self.command(SuperviseCommand::StopServer { server: id(name), grace: None, force: false })
    }

    pub fn publish(&mut self, name: &str, incarnation: u64, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.seq += 1;
            let envelope = envelope(self.seq, self.elapsed(), id(name), Incarnation::new(incarnation), event);
            let actions = self.machine.on_event(&envelope);
            self.perform(actions);
        }
    }

    /// Publishes that the process exists, and lets it hold this many units.
    pub fn spawn(&mut self, name: &str, incarnation: u64, units: u64) {
        let pid = self.processes.keys().max().map_or(1, |pid| pid + 1);
        self.processes.insert(pid, (id(name), Incarnation::new(incarnation), units));
        let spawned = Event::ServerSpawned { pid, start_ticks: 1, argv: [].into(), port: 8001 };
        self.publish(name, incarnation, [Event::LaunchBegan { binary: "x".into() }, spawned]);
    }

    pub fn ready(&mut self, name: &str, incarnation: u64) {
        self.publish(name, incarnation, [Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 1.0 }]);
    }

    pub fn become_ready(&mut self, name: &str, incarnation: u64, units: u64) {
        self.spawn(name, incarnation, units);
        self.ready(name, incarnation);
    }

    pub fn exit(&mut self, name: &str, incarnation: u64) {
        self.processes.retain(|_, (server, _, _)| server.as_str() != name);
        let end = ProcessEnd::Exited { code: 0 };
        let reason = StopReason::Requested;
        let stopped = Event::ServerStopped { reason, forced: false, stop_seconds: 0.1 };
        let began = Event::StopBegan { reason, grace_seconds: 10.0 };
        self.publish(name, incarnation, [began, Event::ServerExited { end, swept: 0 }, stopped]);
    }

    /// Advances the time to the next deadline.
    pub fn advance_to_deadline(&mut self) -> Vec<String> {
        let due = self.machine.next_deadline().expect("a deadline is set");
        self.now = due.as_duration().as_secs_f64();
        let actions = self.machine.on_deadline(due);
        self.perform(actions);
        self.answer_all()
    }

    /// The kinds of the events about a server.
    pub fn published(&self, name: &str) -> Vec<&'static str> {
        self.events.iter().filter(|(server, _)| server.as_str() == name).map(|(_, event)| event.kind()).collect()
    }

    /// The text of the latest event about a server that has one.
    pub fn last_detail(&self, name: &str) -> String {
        let mut texts =
            self.events.iter().filter(|(server, _)| server.as_str() == name).filter_map(|(_, event)| match event {
                Event::ServerFailed { detail, .. } | Event::ServerWarned { detail, .. } => Some(detail.clone()),
                Event::LaunchHeld { because } => Some(because.clone()),
                _ => None,
            });
        texts.next_back().expect("an event with a text")
    }
}
