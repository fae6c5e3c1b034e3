//! Servers with a simulated launcher, terminator and router: requests wait, are sent, and end.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use llama_warden_config::{AdmissionPolicy, RestartPolicy};
use llama_warden_events::{
    Event, FailureReason, Incarnation, ProcessEnd, ReadyVia, RefusalReason, Refused, Seq, ServerId, StopReason,
    SuperviseCommand, Uptime,
};
use llama_warden_room::RoomRules;
use llama_warden_supervisor::{RoutingPolicy, ServerPolicy, SupervisorAction, SupervisorLimits, SupervisorMachine};

use crate::fixtures::{self, envelope, id};

/// How long a launch takes until it is ready.
pub const LOAD: f64 = 2.0;

/// The router's view of one server.
#[derive(Debug, Default)]
struct Routed {
    /// When each waiting request came.
    waiting: VecDeque<f64>,
    in_flight: u32,
    is_closed: bool,
    is_wanted: bool,
    /// A release with a time for what is in flight: when that is over.
    draining: Option<f64>,
}

pub struct RoutedFleet {
    pub machine: SupervisorMachine,
    pub now: f64,
    seq: u64,
    routed: BTreeMap<ServerId, Routed>,
    /// Live launches, and when each is ready; `None` is ready.
    pub live: BTreeMap<ServerId, (Incarnation, Option<f64>)>,
    /// Launches that fail for this reason instead of becoming ready.
    pub failing: BTreeMap<ServerId, FailureReason>,
    pub log: Vec<String>,
    /// What was sent for each server, and how long it had waited.
    pub waits: Vec<(String, f64)>,
    pub most: usize,
}

impl RoutedFleet {
    pub fn new(names: &[&str], routing: RoutingPolicy) -> Self {
        Self::with(names, routing, |policy| policy)
    }

    pub fn with(names: &[&str], routing: RoutingPolicy, change: impl Fn(ServerPolicy) -> ServerPolicy) -> Self {
        let limits =
            SupervisorLimits { shutdown: Duration::from_secs(30), starts: None, memory: AdmissionPolicy::Off, routing };
        let mut machine = SupervisorMachine::new(limits, 7);
        for name in names {
            machine.add(id(name), change(fixtures::policy(RestartPolicy::OnFailure)), 0);
        }
        Self {
            machine,
            now: 1.0,
            seq: 0,
            routed: names.iter().map(|name| (id(name), Routed::default())).collect(),
            live: BTreeMap::new(),
            failing: BTreeMap::new(),
            log: Vec::new(),
            waits: Vec::new(),
            most: 0,
        }
    }

    pub fn at(&self) -> Uptime {
        Uptime::new(Duration::from_secs_f64(self.now))
    }

    fn event(&mut self, server: &ServerId, incarnation: Incarnation, event: Event) {
        self.seq += 1;
        let envelope = envelope(self.seq, self.at(), server.clone(), incarnation, event);
        let actions = self.machine.on_event(&envelope);
        self.perform(actions);
    }

    pub fn command(&mut self, command: SuperviseCommand) -> Option<RefusalReason> {
        if let Some(refused) = self.machine.refusal(&command, self.at()) {
            return Some(refused.reason);
        }
        self.seq += 1;
        let actions = self.machine.on_command(command, Seq::new(self.seq), self.at());
        self.perform(actions);
        None
    }

    pub fn perform(&mut self, actions: Vec<SupervisorAction>) {
        for action in actions {
            match action {
                SupervisorAction::Launch { server, incarnation } => {
                    self.log.push(format!("launch {server}"));
                    assert!(!self.live.contains_key(&server), "{server} has a launch");
                    self.live.insert(server.clone(), (incarnation, Some(self.now + LOAD)));
                    self.most = self.most.max(self.live.len());
                    self.event(&server, incarnation, Event::LaunchBegan { binary: "x".into() });
                    let spawned = Event::ServerSpawned { pid: 1, start_ticks: 1, argv: [].into(), port: 8001 };
                    self.event(&server, incarnation, spawned);
                }
                SupervisorAction::Terminate { server, incarnation, reason, grace } => {
                    let left = self.routed[&server].in_flight;
                    let grace = grace.map(|grace| format!(" within {:.1} s", grace.as_secs_f64())).unwrap_or_default();
                    let cut = if left > 0 { format!(" cuts {left}") } else { String::new() };
                    self.log.push(format!("stop {server} {reason}{grace}{cut}"));
                    self.end(&server, incarnation, reason);
                }
                SupervisorAction::Release { server, incarnation, drain } => self.release(&server, incarnation, drain),
                SupervisorAction::Reopen { server, .. } => {
                    self.log.push(format!("reopen {server}"));
                    let routed = self.routed.get_mut(&server).expect("known");
                    (routed.is_closed, routed.draining) = (false, None);
                    self.send_waiting(&server);
                }
                SupervisorAction::Publish {
                    server: Some(server),
                    event: Event::EvictionPlanned { victims, because },
                    ..
                } => {
                    let victims: Vec<_> = victims.iter().map(ServerId::as_str).collect();
                    self.log.push(format!("{server} evicts {} for {because}", victims.join(" ")));
                }
                SupervisorAction::Publish { server: Some(server), event: Event::LaunchSkipped { .. }, .. } => {
                    self.log.push(format!("skip {server}"));
                }
                // Who waits is refused, as nobody launches it any more.
                SupervisorAction::Publish { server: Some(server), event: Event::RestartAbandoned { .. }, .. } => {
                    self.leave(server.as_str());
                }
                _ => {}
            }
        }
    }

    fn end(&mut self, server: &ServerId, incarnation: Incarnation, reason: StopReason) {
        let routed = self.routed.get_mut(server).expect("known");
        (routed.in_flight, routed.is_closed, routed.draining) = (0, false, None);
        self.event(server, incarnation, Event::StopBegan { reason, grace_seconds: 10.0 });
        self.live.remove(server);
        self.event(server, incarnation, Event::ServerExited { end: ProcessEnd::Exited { code: 0 }, swept: 0 });
        self.event(server, incarnation, Event::ServerStopped { reason, forced: false, stop_seconds: 0.1 });
    }

    pub fn crash(&mut self, name: &str) {
        let server = id(name);
        let (incarnation, _) = self.live.remove(&server).expect("it runs");
        let routed = self.routed.get_mut(&server).expect("known");
        (routed.in_flight, routed.is_closed, routed.draining) = (0, false, None);
        self.event(&server, incarnation, Event::ServerExited { end: ProcessEnd::Exited { code: 1 }, swept: 0 });
        let failed = Event::ServerFailed { reason: FailureReason::Crashed, detail: String::new(), lines: vec![] };
        self.event(&server, incarnation, failed);
    }

    fn release(&mut self, server: &ServerId, incarnation: Incarnation, drain: Duration) {
        let routed = self.routed.get_mut(server).expect("known");
        let is_busy = routed.in_flight > 0;
        let in_use = Refused::new(RefusalReason::InUse, "requests are in flight");
        let answer = if drain.is_zero() && is_busy { Err(&in_use) } else { Ok(()) };
        if answer.is_ok() {
            routed.is_closed = true;
            routed.draining = (is_busy && !drain.is_zero()).then_some(self.now + drain.as_secs_f64());
        }
        let at = self.at();
        let actions = self.machine.on_release_answered(server, (incarnation, drain), answer, at);
        self.perform(actions);
    }

    /// A request comes.
    pub fn request(&mut self, name: &str) -> Option<RefusalReason> {
        let server = id(name);
        let routed = self.routed.get_mut(&server).expect("known");
        routed.waiting.push_back(self.now);
        self.send_waiting(&server);
        if self.routed[&server].waiting.is_empty() || self.routed[&server].is_wanted {
            return None;
        }
        let refused = self.want(&server);
        if refused.is_some() {
            self.routed.get_mut(&server).expect("known").waiting.clear();
        }
        refused
    }

    fn want(&mut self, server: &ServerId) -> Option<RefusalReason> {
        let routed = self.routed.get_mut(server).expect("known");
        let oldest = Uptime::new(Duration::from_secs_f64(*routed.waiting.front().expect("somebody waits")));
        routed.is_wanted = true;
        let refused = self.command(SuperviseCommand::WantServer { server: server.clone(), oldest, priority: 0 });
        if refused.is_some() {
            self.routed.get_mut(server).expect("known").is_wanted = false;
        }
        refused
    }

    /// Whoever waits goes away.
    pub fn leave(&mut self, name: &str) {
        self.routed.get_mut(&id(name)).expect("known").waiting.clear();
        self.unwant(&id(name));
    }

    fn unwant(&mut self, server: &ServerId) {
        if std::mem::take(&mut self.routed.get_mut(server).expect("known").is_wanted) {
            self.command(SuperviseCommand::UnwantServer { server: server.clone() });
        }
    }

    /// Sends what waits through an open gate.
    fn send_waiting(&mut self, server: &ServerId) {
        let is_ready = self.live.get(server).is_some_and(|(_, ready_at)| ready_at.is_none());
        let routed = self.routed.get_mut(server).expect("known");
        if !is_ready || routed.is_closed || routed.waiting.is_empty() {
            return;
        }
        for came in std::mem::take(&mut routed.waiting) {
            routed.in_flight += 1;
            self.waits.push((server.to_string(), self.now - came));
        }
        self.unwant(server);
    }

    /// A request in flight ends.
    pub fn respond(&mut self, name: &str) {
        let server = id(name);
        let routed = self.routed.get_mut(&server).expect("known");
        routed.in_flight = routed.in_flight.saturating_sub(1);
        if routed.in_flight == 0 && routed.draining.take().is_some() {
            self.released(&server, 0);
        }
    }

    fn released(&mut self, server: &ServerId, left: u32) {
        if let Some((incarnation, _)) = self.live.get(server).copied() {
            self.event(server, incarnation, Event::ServerReleased { left });
        }
    }

    /// Lets time pass; launches become ready, deadlines come.
    pub fn pass(&mut self, seconds: f64) {
        let end = self.now + seconds;
        loop {
            let ready = self.live.values().filter_map(|(_, ready_at)| *ready_at);
            let drained = self.routed.values().filter_map(|routed| routed.draining);
            let machine = self.machine.next_deadline().map(|at| at.as_duration().as_secs_f64() + 1e-6);
            let next = ready.chain(drained).chain(machine).fold(f64::INFINITY, f64::min);
            if next > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(next);
            self.happen();
        }
    }

    fn happen(&mut self) {
        let due = |(server, (incarnation, at)): (&ServerId, &(Incarnation, Option<f64>))| {
            at.is_some_and(|at| at <= self.now).then(|| (server.clone(), *incarnation))
        };
        let ready: Vec<_> = self.live.iter().filter_map(due).collect();
        for (server, incarnation) in ready {
            if let Some(reason) = self.failing.get(&server).copied() {
                self.live.remove(&server);
                self.event(&server, incarnation, Event::ServerExited { end: ProcessEnd::Exited { code: 1 }, swept: 0 });
                let failed = Event::ServerFailed { reason, detail: "why".to_owned(), lines: vec![] };
                self.event(&server, incarnation, failed);
                continue;
            }
            self.live.insert(server.clone(), (incarnation, None));
            self.event(&server, incarnation, Event::ReadyReached { via: ReadyVia::Health, startup_seconds: LOAD });
            self.send_waiting(&server);
        }
        let drained = self.routed.iter().filter(|(_, routed)| routed.draining.is_some_and(|at| at <= self.now));
        let drained: Vec<_> = drained.map(|(server, routed)| (server.clone(), routed.in_flight)).collect();
        for (server, left) in drained {
            self.routed.get_mut(&server).expect("known").draining = None;
            self.released(&server, left);
        }
        let at = self.at();
        let actions = self.machine.on_deadline(at);
        self.perform(actions);
    }

    pub fn ready(&self) -> Vec<&str> {
        self.live.iter().filter(|(_, (_, ready_at))| ready_at.is_none()).map(|(server, _)| server.as_str()).collect()
    }

    pub fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    pub fn in_flight(&self, name: &str) -> u32 {
        self.routed[&id(name)].in_flight
    }

    pub fn is_waiting(&self) -> bool {
        self.routed.values().any(|routed| !routed.waiting.is_empty())
    }

    /// A server is used, or not any more, as the router says with its delay.
    pub fn use_ended(&mut self, name: &str, last_used: f64) {
        let (incarnation, _) = self.live[&id(name)];
        let last_used = Uptime::new(Duration::from_secs_f64(last_used));
        self.event(&id(name), incarnation, Event::UseEnded { last_used });
    }

    pub fn use_began(&mut self, name: &str) {
        let (incarnation, _) = self.live[&id(name)];
        self.event(&id(name), incarnation, Event::UseBegan);
    }
}

/// A router that lets so many servers run at a time.
pub fn at_most(most: usize) -> RoutingPolicy {
    let rules = RoomRules { max_loaded: Some(most), ..RoomRules::default() };
    RoutingPolicy { is_on: true, rules, ..RoutingPolicy::default() }
}
