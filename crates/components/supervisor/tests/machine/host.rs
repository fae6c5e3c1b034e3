//! A simulated machine whose memory is short.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use llama_warden_config::{AdmissionPolicy, RestartPolicy};
use llama_warden_events::{
    CommandOutcome, Event, Incarnation, ProcessEnd, ReadyVia, Seq, ServerId, StopReason, SuperviseCommand, Uptime,
};
use llama_warden_memory::{Available, Bound, Gpu, Gpus, MemoryRequirement, Parts, Reading};
use llama_warden_supervisor::{Action, Machine};

use crate::support::{envelope, id, restart, weighing};

/// Servers need whole units.
pub const UNIT: u64 = 1 << 30;

/// A machine with `total` units, of which servers take what they were estimated to need. Launches are reported by hand.
pub struct Host {
    pub machine: Machine,
    pub seq: u64,
    pub now: f64,
    pub total: u64,
    /// Units that others than our servers have.
    pub foreign: u64,
    /// Units of GPUs; `None` where there are none.
    pub gpus: Option<u64>,
    pub demands: BTreeMap<ServerId, Option<MemoryRequirement>>,
    /// Units that each process has, by its number.
    pub processes: BTreeMap<u32, (ServerId, Incarnation, u64)>,
    pub launched: Vec<String>,
    pub events: Vec<(ServerId, Event)>,
    pub outcomes: BTreeMap<Seq, CommandOutcome>,
    pub questions: VecDeque<Action>,
}

impl Host {
    pub fn new(total: u64, memory: AdmissionPolicy, servers: &[(&str, u64)]) -> Self {
        Self::with_policy(total, memory, RestartPolicy::Never, servers)
    }

    pub fn with_policy(total: u64, memory: AdmissionPolicy, policy: RestartPolicy, servers: &[(&str, u64)]) -> Self {
        let mut machine = weighing(None, memory);
        for (name, _) in servers {
            machine.add(id(name), restart(policy), 0);
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
            foreign: 0,
            gpus: None,
            demands: servers.iter().map(|(name, units)| (id(name), Some(demand(*units)))).collect(),
            processes: BTreeMap::new(),
            launched: Vec::new(),
            events: Vec::new(),
            outcomes: BTreeMap::new(),
            questions: VecDeque::new(),
        }
    }

    pub fn elapsed(&self) -> Uptime {
        Uptime::new(Duration::from_secs_f64(self.now))
    }

    pub fn take(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Launch { server, incarnation } => self.launched.push(format!("{server}#{incarnation}")),
                Action::Announce { server, event } | Action::Tell { server, event, .. } => {
                    self.events.push((server, event));
                }
                Action::Complete { id, outcome, .. } => drop(self.outcomes.insert(id, outcome)),
                Action::EstimateMemory { .. } | Action::ReadMemory { .. } => self.questions.push_back(action),
                _ => {}
            }
        }
    }

    /// Answers the oldest question.
    pub fn answer(&mut self) -> bool {
        let actions = match self.questions.pop_front() {
            Some(Action::EstimateMemory { server, ticket }) => {
                let demand = self.demands[&server].clone();
                self.machine.on_estimated(&server, ticket, demand, self.elapsed())
            }
            Some(Action::ReadMemory { pids }) => {
                let reading = self.reading(&pids);
                self.machine.on_memory_read(&reading, self.elapsed())
            }
            _ => return false,
        };
        self.take(actions);
        true
    }

    pub fn reading(&self, pids: &[u32]) -> Reading {
        let used: u64 = self.processes.values().map(|(_, _, units)| units).sum();
        let bytes = self.total.saturating_sub(used + self.foreign) * UNIT;
        let resident = |pid: &u32| Some((*pid, self.processes.get(pid)?.2 * UNIT));
        let gpu = |free: u64| Gpu { name: "g".to_owned(), free: free * UNIT };
        Reading {
            host: Some(Available { bytes, bound: Bound::Machine }),
            gpus: self.gpus.map_or(Gpus::Absent, |free| Gpus::Measured(vec![gpu(free)])),
            resident: pids.iter().filter_map(resident).collect(),
        }
    }

    /// Answers all questions and returns what was launched since the last time.
    pub fn settle(&mut self) -> Vec<String> {
        while self.answer() {}
        std::mem::take(&mut self.launched)
    }

    pub fn start(&mut self, names: &[&str]) -> Vec<String> {
        let names: Vec<_> = names.iter().map(|name| id(name)).collect();
        let actions = self.machine.start_all(&names);
        self.take(actions);
        self.settle()
    }

    pub fn command(&mut self, command: SuperviseCommand) -> Seq {
        self.seq += 1;
        let actions = self.machine.on_command(command, Seq::new(self.seq), self.elapsed());
        self.take(actions);
        Seq::new(self.seq)
    }

    pub fn stop(&mut self, name: &str) -> Seq {
        self.command(SuperviseCommand::StopServer { server: id(name), grace: None, force: false })
    }

    pub fn tell(&mut self, name: &str, incarnation: u64, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.seq += 1;
            let envelope = envelope(self.seq, self.elapsed(), id(name), Incarnation::new(incarnation), event);
            let actions = self.machine.on_event(&envelope);
            self.take(actions);
        }
    }

    /// The process exists and has this many units.
    pub fn spawn(&mut self, name: &str, incarnation: u64, units: u64) {
        let pid = self.processes.keys().max().map_or(1, |pid| pid + 1);
        self.processes.insert(pid, (id(name), Incarnation::new(incarnation), units));
        let spawned = Event::ServerSpawned { pid, start_ticks: 1, argv: [].into(), port: 8001 };
        self.tell(name, incarnation, [Event::LaunchBegan { binary: "x".into() }, spawned]);
    }

    pub fn ready(&mut self, name: &str, incarnation: u64) {
        self.tell(name, incarnation, [Event::ReadyReached { via: ReadyVia::Health, startup_seconds: 1.0 }]);
    }

    pub fn rise(&mut self, name: &str, incarnation: u64, units: u64) {
        self.spawn(name, incarnation, units);
        self.ready(name, incarnation);
    }

    pub fn exit(&mut self, name: &str, incarnation: u64) {
        self.processes.retain(|_, (server, _, _)| server.as_str() != name);
        let end = ProcessEnd::Exited { code: 0 };
        let reason = StopReason::Requested;
        let stopped = Event::ServerStopped { reason, forced: false, stop_seconds: 0.1 };
        let began = Event::StopBegan { reason, grace_seconds: 10.0 };
        self.tell(name, incarnation, [began, Event::ServerExited { end, swept: 0 }, stopped]);
    }

    /// Lets the time of the next deadline come.
    pub fn wait(&mut self) -> Vec<String> {
        let due = self.machine.next_deadline().expect("something is awaited");
        self.now = due.as_duration().as_secs_f64();
        let actions = self.machine.on_deadline(due);
        self.take(actions);
        self.settle()
    }

    /// The events about a server, by kind.
    pub fn told(&self, name: &str) -> Vec<&'static str> {
        self.events.iter().filter(|(server, _)| server.as_str() == name).map(|(_, event)| event.kind()).collect()
    }

    /// What the latest event about a server says, for people.
    pub fn detail(&self, name: &str) -> String {
        let mut texts =
            self.events.iter().filter(|(server, _)| server.as_str() == name).filter_map(|(_, event)| match event {
                Event::ServerFailed { detail, .. } | Event::ServerWarned { detail, .. } => Some(detail.clone()),
                Event::LaunchHeld { because } => Some(because.clone()),
                _ => None,
            });
        texts.next_back().expect("something is told")
    }
}
