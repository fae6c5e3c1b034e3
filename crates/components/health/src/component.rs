//! The component: hears who is ready, looks at them in time, and publishes what their machines say.
//!
//! Looks run as tasks of their own, so that one slow server delays no other. Their number is bounded: one at a time for
//! each ready server, each with a time limit.

use std::collections::BTreeMap;
use std::sync::Arc;

use llama_warden_bus::{BusClosed, Clock, Delivery, EventDraft, OutputLane, Publisher};
use llama_warden_component::{Component, Ports};
use llama_warden_config::{Fleet, ServerSpec};
use llama_warden_events::{Envelope, Event, Incarnation, NoCommand, Seq, ServerId, StreamName, Uptime};
use llama_warden_probe::Target;
use llama_warden_state::{Phase, ProcessRecord, ServerRecord, Snapshot};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::check::{CheckReport as Observation, CheckTarget as Subject, check as look};
use crate::cpu::Leader;
use crate::machine::{HealthMachine as Machine, HealthState as Standing};

/// How many lines of output go with a failure, and how much of each, in characters.
const LAST_LINES: (usize, usize) = (12, 512);

/// Watches ready servers.
#[derive(Debug)]
pub struct Health {
    fleet: watch::Receiver<Fleet>,
    lane: OutputLane,
}

/// Why the component ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// Events come and go no more.
    #[error("lost the line of events: {0}")]
    Bus(#[from] BusClosed),
}

impl Health {
    /// The component. Of the lane it reads the last lines of a server that failed.
    pub const fn new(fleet: watch::Receiver<Fleet>, lane: OutputLane) -> Self {
        Self { fleet, lane }
    }
}

impl Component for Health {
    const NAME: &'static str = "health";
    type Command = NoCommand;
    type Error = HealthError;

    async fn run(self, mut ports: Ports<NoCommand>) -> Result<(), HealthError> {
        let mut fleet = self.fleet.clone();
        let mut ward = Ward {
            health: self,
            events: ports.events,
            clock: ports.clock,
            processes: BTreeMap::new(),
            looks: JoinSet::new(),
        };
        ward.catch_up(&ports.subscription.snapshot());
        loop {
            let deadline = ward.next_deadline();
            tokio::select! {
                () = ports.cancel.cancelled() => return Ok(()),
                delivery = ports.subscription.next() => match delivery {
                    Some(Delivery::Event(envelope)) => ward.hear(&envelope),
                    Some(Delivery::Gap { snapshot, .. }) => ward.catch_up(&snapshot),
                    None => return Err(BusClosed.into()),
                },
                () = changed(&mut fleet) => ward.change_terms(),
                Some(done) = ward.looks.join_next() => ward.finish_look(done).await?,
                () = ports.clock.sleep_until(deadline) => ward.begin_looks(),
            }
        }
    }
}

/// Waits for another configuration; for ever when none can come any more.
async fn changed(fleet: &mut watch::Receiver<Fleet>) {
    if fleet.changed().await.is_err() {
        std::future::pending().await
    }
}

type LaunchKey = (ServerId, Incarnation);

struct Ward {
    health: Health,
    events: Publisher,
    clock: Clock,
    /// The process of the latest launch of each server.
    processes: BTreeMap<ServerId, Box<Process>>,
    looks: JoinSet<(LaunchKey, Observation)>,
}

struct Process {
    incarnation: Incarnation,
    leader: Leader,
    port: u16,
    /// While it is watched.
    patient: Option<Patient>,
}

/// A ready server, or one that was.
struct Patient {
    machine: Machine,
    /// What it was launched by tells where and how it is asked.
    spec: Arc<ServerSpec>,
    /// The event that made it ready, where it was heard.
    cause: Option<Seq>,
}

impl Process {
    const fn new(incarnation: Incarnation, leader: Leader, port: u16) -> Self {
        Self { incarnation, leader, port, patient: None }
    }
}

impl Ward {
    fn hear(&mut self, envelope: &Envelope) {
        let (Some(server), Some(incarnation)) = (&envelope.server, envelope.incarnation) else { return };
        match &envelope.event {
            Event::ServerSpawned { pid, start_ticks, port, .. } => {
                let leader = Leader { pid: *pid, start_ticks: *start_ticks };
                self.processes.insert(server.clone(), Box::new(Process::new(incarnation, leader, *port)));
            }
            Event::ReadyReached { .. } => {
                self.admit(server, incarnation, Standing::Ready, Some(envelope.seq));
            }
            Event::StopBegan { .. } | Event::ServerFailed { .. } => self.discharge(server, incarnation),
            Event::ServerExited { .. } if self.process(server, incarnation).is_some() => {
                self.processes.remove(server);
            }
            _ => {}
        }
    }

    /// Begins to watch a server, unless it is watched already.
    fn admit(&mut self, server: &ServerId, incarnation: Incarnation, standing: Standing, cause: Option<Seq>) {
        let Some(spec) = self.health.fleet.borrow().get(server.as_str()).cloned() else { return };
        let now = self.clock.now();
        let Some(process) = self.process(server, incarnation).filter(|process| process.patient.is_none()) else {
            return;
        };
        let machine = Machine::new(spec.health.clone(), standing, now, fastrand::f64());
        process.patient = Some(Patient { machine, spec, cause });
    }

    fn discharge(&mut self, server: &ServerId, incarnation: Incarnation) {
        if let Some(process) = self.process(server, incarnation) {
            // A look that is under way ends within its time limits and finds nobody to tell.
            process.patient = None;
        }
    }

    fn process(&mut self, server: &ServerId, incarnation: Incarnation) -> Option<&mut Process> {
        self.processes.get_mut(server).map(Box::as_mut).filter(|process| process.incarnation == incarnation)
    }

    /// Makes up for events that were not heard, from the snapshot that contains them.
    fn catch_up(&mut self, snapshot: &Snapshot) {
        let mut known = std::mem::take(&mut self.processes);
        for (server, record) in &snapshot.servers {
            let Some(ProcessRecord { pid, start_ticks, port, .. }) = record.process else { continue };
            let incarnation = record.incarnation;
            let new = || Box::new(Process::new(incarnation, Leader { pid, start_ticks }, port));
            let process = known.remove(server).filter(|process| process.incarnation == incarnation);
            self.processes.insert(server.clone(), process.unwrap_or_else(new));
            match standing(record) {
                Some(standing) => self.admit(server, incarnation, standing, None),
                None => self.discharge(server, incarnation),
            }
        }
    }

    /// A server that left the configuration is watched on the terms that it had, for as long as it runs.
    fn change_terms(&mut self) {
        let fleet = self.health.fleet.borrow().clone();
        let now = self.clock.now();
        for (server, process) in &mut self.processes {
            if let (Some(patient), Some(spec)) = (&mut process.patient, fleet.get(server.as_str())) {
                patient.machine.change_terms(spec.health.clone(), now);
            }
        }
    }

    fn next_deadline(&self) -> Option<Uptime> {
        let patients = self.processes.values().filter_map(|process| process.patient.as_ref());
        patients.filter_map(|patient| patient.machine.next_deadline()).min()
    }

    fn begin_looks(&mut self) {
        let now = self.clock.now();
        for (server, process) in &mut self.processes {
            let Some(patient) = &mut process.patient else { continue };
            if let Some(order) = patient.machine.begin_look(now) {
                let key = (server.clone(), process.incarnation);
                // Made anew for each look: what is kept of a server is kept for each of them.
                let target = Target::new(&patient.spec, process.port);
                let subject = Subject { target, leader: process.leader, clock: self.clock };
                self.looks.spawn(async move { (key, look(&subject, order).await) });
            }
        }
    }

    async fn finish_look(&mut self, done: Result<(LaunchKey, Observation), JoinError>) -> Result<(), BusClosed> {
        let (key, observation) = match done {
            Ok(done) => done,
            // Looks do not panic; if one did, its server goes unwatched, which someone must know.
            Err(error) => {
                tracing::error!(%error, "a look at a server failed; it is not watched any more");
                return Ok(());
            }
        };
        let now = self.clock.now();
        let Some(patient) = self.process(&key.0, key.1).and_then(|process| process.patient.as_mut()) else {
            return Ok(());
        };
        let cause = patient.cause;
        for mut event in patient.machine.finish_look(observation, now) {
            if let Event::ServerFailed { lines, .. } = &mut event {
                *lines = self.last_lines(&key.0);
            }
            self.events.publish(EventDraft::incarnation(key.0.clone(), key.1, event).because(cause)).await?;
        }
        Ok(())
    }

    fn last_lines(&self, server: &ServerId) -> Vec<String> {
        let lines = self.health.lane.tail(server, Some(StreamName::Stderr), LAST_LINES.0);
        lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).chars().take(LAST_LINES.1).collect()).collect()
    }
}

/// How a server stands that is to be watched.
fn standing(record: &ServerRecord) -> Option<Standing> {
    match record.phase {
        _ if record.failure.is_some() || record.stop.is_some() => None,
        Phase::Ready { .. } => Some(Standing::Ready),
        Phase::Unready { .. } => Some(Standing::Lost),
        _ => None,
    }
}
