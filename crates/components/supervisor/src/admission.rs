//! Whether there is memory for a launch that is due.
//!
//! A launch is weighed in two steps, both of which the caller performs beside its loop: once what the server will need,
//! then what there is. Launches are weighed in the order of the wishes. Nothing is decided by a reading that was taken
//! before somebody gave memory back. What is granted is an record, which stays until the server is down; what does not
//! fit yet and will is held, and looked at again whenever memory is given back, and every [`RECHECK`].

use std::collections::BTreeMap;
use std::time::Duration;

use llama_warden_config::AdmissionPolicy;
use llama_warden_events::{Event, ServerId, Uptime};
use llama_warden_memory::{Demand, Reading};

use crate::action::SupervisorAction;
use crate::budget::{MemoryAmount, MemoryBudget, MemoryFit, Reservation, ReservationStage};

/// How often what is held is looked at again: others than our servers give memory back too.
pub(crate) const RECHECK: Duration = Duration::from_secs(1);

/// How long a driver may take to free the memory of a process that is gone. The kernel frees a process's own memory before
/// its end can be seen.
pub(crate) const GPU_RELEASE: Duration = Duration::from_secs(5);

/// What becomes of a launch that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdmissionDecision {
    /// It is granted, with a warning where the memory may not suffice.
    Granted { warning: Option<String> },
    /// There is not enough memory, and nothing is under way that would free it.
    Refused { detail: String },
    /// Not yet.
    Waiting,
}

/// The records of all servers.
#[derive(Debug)]
pub(crate) struct Admission {
    policy: AdmissionPolicy,
    records: BTreeMap<ServerId, Box<AdmissionRecord>>,
    last_estimate_id: u64,
    reading: ReadingState,
    /// Whether what is held deserves another look.
    is_dirty: bool,
    recheck_at: Option<Uptime>,
    /// When a server that had memory of GPUs went down.
    gpus_freed: Option<Uptime>,
}

#[derive(Debug)]
struct AdmissionRecord {
    /// Names the reading about its requirement, so that an answer to an older one is told apart.
    estimate_id: u64,
    requirement: Estimate,
    state: AdmissionState,
    /// Its process.
    pid: Option<u32>,
}

#[derive(Debug)]
enum Estimate {
    Pending,
    /// `None` where nothing tells.
    Known(Option<Demand>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AdmissionState {
    /// Due and not weighed yet.
    Due,
    /// MemoryAnswer, and waiting for what is about to be free.
    Held,
    Granted,
}

/// The reading what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadingState {
    Idle,
    Requested,
    /// Asked before somebody gave memory back: its answer is too old.
    Outdated,
}

/// One pass over all launches that are due.
#[derive(Debug)]
pub(crate) struct AdmissionPass<'r> {
    reading: Option<&'r Reading>,
    now: Uptime,
    stages: BTreeMap<ServerId, ReservationStage>,
    /// What is spoken for by those who wait already.
    queued_before: MemoryAmount,
    needs_reading: bool,
    any_held: bool,
    /// Whether somebody further ahead is still being estimated.
    awaits_estimate: bool,
}

impl Admission {
    pub(crate) const fn new(policy: AdmissionPolicy) -> Self {
        Self {
            policy,
            records: BTreeMap::new(),
            last_estimate_id: 0,
            reading: ReadingState::Idle,
            is_dirty: false,
            recheck_at: None,
            gpus_freed: None,
        }
    }

    /// A process of a server that was granted its launch.
    pub(crate) fn on_spawned(&mut self, server: &ServerId, pid: u32) {
        if let Some(record) = self.records.get_mut(server).filter(|record| record.state == AdmissionState::Granted) {
            record.pid = Some(pid);
        }
    }

    /// What a server will need was found out.
    pub(crate) fn on_estimated(
        &mut self,
        server: &ServerId,
        estimate_id: u64,
        requirement: Option<Demand>,
        actions: &mut Vec<SupervisorAction>,
    ) {
        let Some(record) = self.records.get_mut(server).filter(|record| record.estimate_id == estimate_id) else {
            return;
        };
        if let Some(requirement) = &requirement {
            let event = Event::MemoryEstimated { estimate: requirement.card() };
            actions.push(SupervisorAction::Announce { server: server.clone(), event });
        }
        record.requirement = Estimate::Known(requirement);
    }

    /// The answer to what there is; whether it can be used.
    pub(crate) fn on_reading(&mut self) -> bool {
        let is_fresh = self.reading == ReadingState::Requested;
        self.reading = ReadingState::Idle;
        self.is_dirty |= !is_fresh;
        is_fresh
    }

    /// Memory was given back, or loaded: what is held deserves another look, and a reading under way is too old.
    pub(crate) fn mark_dirty(&mut self) {
        self.is_dirty = true;
        if self.reading == ReadingState::Requested {
            self.reading = ReadingState::Outdated;
        }
    }

    pub(crate) const fn next_deadline(&self) -> Option<Uptime> {
        self.recheck_at
    }

    pub(crate) fn on_deadline(&mut self, now: Uptime) {
        if self.recheck_at.take_if(|at| *at <= now).is_some() {
            self.is_dirty = true;
        }
    }

    /// Closes the record of a server that is down, or whose launch is no longer due.
    pub(crate) fn release(&mut self, server: &ServerId, now: Uptime, actions: &mut Vec<SupervisorAction>) {
        let Some(record) = self.records.remove(server) else { return };
        match record.state {
            AdmissionState::Due => {}
            AdmissionState::Held => actions.push(launch_released(server)),
            AdmissionState::Granted => {
                if matches!(&record.requirement, Estimate::Known(Some(requirement)) if requirement.gpus.total() > 0) {
                    self.gpus_freed = Some(now);
                }
                self.mark_dirty();
            }
        }
    }

    /// The servers that have an record, and whether it is one of a launch that was granted.
    pub(crate) fn tracked(&self) -> impl Iterator<Item = (&ServerId, bool)> {
        self.records.iter().map(|(server, record)| (server, record.state == AdmissionState::Granted))
    }

    /// Begins a pass. `stages` says how far each server that was granted a launch has come.
    pub(crate) fn begin_pass<'r>(
        &self,
        reading: Option<&'r Reading>,
        now: Uptime,
        stages: BTreeMap<ServerId, ReservationStage>,
    ) -> AdmissionPass<'r> {
        AdmissionPass {
            reading,
            now,
            stages,
            queued_before: MemoryAmount::default(),
            needs_reading: false,
            any_held: false,
            awaits_estimate: false,
        }
    }

    /// Says what becomes of a launch that is due.
    pub(crate) fn decide(
        &mut self,
        server: &ServerId,
        pass: &mut AdmissionPass<'_>,
        actions: &mut Vec<SupervisorAction>,
    ) -> AdmissionDecision {
        if self.policy == AdmissionPolicy::Off {
            return AdmissionDecision::Granted { warning: None };
        }
        let (state, requirement) = match self.records.get(server).map(Box::as_ref) {
            None => {
                self.request_estimate(server, actions);
                return self.wait_for_estimate(pass);
            }
            Some(AdmissionRecord { requirement: Estimate::Pending, .. }) => return self.wait_for_estimate(pass),
            Some(AdmissionRecord { requirement: Estimate::Known(requirement), state, .. }) => {
                (*state, requirement.clone())
            }
        };
        if pass.awaits_estimate {
            pass.any_held |= state == AdmissionState::Held;
            return AdmissionDecision::Waiting;
        }
        // The launch tells better what is wrong with a model that cannot be read.
        let Some(requirement) = requirement else { return self.grant(server, pass, None, actions) };
        let Some(reading) = pass.reading else {
            pass.needs_reading |= state == AdmissionState::Due || self.is_dirty;
            pass.any_held |= state == AdmissionState::Held;
            return AdmissionDecision::Waiting;
        };
        let reservations = self.reservations(pass, reading);
        let budget = MemoryBudget::compute(reading, &reservations);
        let fit = budget.fit(&requirement, pass.queued_before);
        let frees_gpus = self.gpus_freed.is_some_and(|at| pass.now.since(at) < GPU_RELEASE);
        let awaits_driver = fit != MemoryFit::Now && frees_gpus && budget.gpus_are_short(&requirement);
        let (text, queued_before) =
            (budget.describe(&requirement), budget.queue_behind(&requirement, pass.queued_before));
        match (fit, self.policy) {
            (MemoryFit::Now, _) => self.grant(server, pass, None, actions),
            _ if awaits_driver => {
                let because = format!("{text}; a driver may still be freeing what a server had");
                pass.queued_before = queued_before;
                self.hold(server, because, pass, actions)
            }
            (MemoryFit::Later, AdmissionPolicy::Enforce) => {
                let because = format!("{text}; {}", pass.waits_for());
                pass.queued_before = queued_before;
                self.hold(server, because, pass, actions)
            }
            (MemoryFit::Never, AdmissionPolicy::Enforce) => {
                self.records.remove(server);
                if state == AdmissionState::Held {
                    actions.push(launch_released(server));
                }
                let next = "lower its ctx-size or cache types, stop another server, or set start.memory = \"warn\"";
                AdmissionDecision::Refused { detail: format!("{text}; {next}") }
            }
            (MemoryFit::Later | MemoryFit::Never, _) => self.grant(server, pass, Some(text), actions),
        }
    }

    /// Ends a pass: asks what there is if somebody waits for that, and remembers when to look again.
    pub(crate) fn end_pass(&mut self, pass: &AdmissionPass<'_>, actions: &mut Vec<SupervisorAction>) {
        if pass.needs_reading && self.reading == ReadingState::Idle {
            self.reading = ReadingState::Requested;
            self.is_dirty = false;
            let pids = self.records.values().filter_map(|record| record.pid).collect();
            actions.push(SupervisorAction::ReadMemory { pids });
        }
        if !pass.any_held {
            self.recheck_at = None;
        } else if pass.reading.is_some() {
            self.recheck_at = Some(Uptime::new(pass.now.as_duration().saturating_add(RECHECK)));
        }
    }

    /// Who gets the memory must not depend on whose file is read first. Where all get it, nobody waits.
    fn wait_for_estimate(&self, pass: &mut AdmissionPass<'_>) -> AdmissionDecision {
        pass.awaits_estimate |= self.policy == AdmissionPolicy::Enforce;
        AdmissionDecision::Waiting
    }

    fn request_estimate(&mut self, server: &ServerId, actions: &mut Vec<SupervisorAction>) {
        self.last_estimate_id += 1;
        let estimate_id = self.last_estimate_id;
        let record =
            AdmissionRecord { estimate_id, requirement: Estimate::Pending, state: AdmissionState::Due, pid: None };
        self.records.insert(server.clone(), Box::new(record));
        actions.push(SupervisorAction::EstimateMemory { server: server.clone(), estimate_id });
    }

    fn grant(
        &mut self,
        server: &ServerId,
        pass: &mut AdmissionPass<'_>,
        warning: Option<String>,
        actions: &mut Vec<SupervisorAction>,
    ) -> AdmissionDecision {
        if let Some(record) = self.records.get_mut(server) {
            if record.state == AdmissionState::Held {
                actions.push(launch_released(server));
            }
            record.state = AdmissionState::Granted;
            if warning.is_some() {
                // It takes its chances: what was not there is not promised to it, or everybody after it would be warned of too.
                record.requirement = Estimate::Known(None);
            }
        }
        pass.stages.insert(server.clone(), ReservationStage::Starting);
        AdmissionDecision::Granted { warning }
    }

    /// Tells once that it waits; the numbers would change with every look.
    fn hold(
        &mut self,
        server: &ServerId,
        because: String,
        pass: &mut AdmissionPass<'_>,
        actions: &mut Vec<SupervisorAction>,
    ) -> AdmissionDecision {
        pass.any_held = true;
        if let Some(record) = self.records.get_mut(server).filter(|record| record.state == AdmissionState::Due) {
            record.state = AdmissionState::Held;
            actions.push(SupervisorAction::Announce { server: server.clone(), event: Event::LaunchHeld { because } });
        }
        AdmissionDecision::Waiting
    }

    fn reservations<'a>(&'a self, pass: &AdmissionPass<'_>, reading: &Reading) -> Vec<Reservation<'a>> {
        let records = self.records.iter().map(|(server, record)| (server, record.as_ref()));
        let granted = records.filter(|(_, record)| record.state == AdmissionState::Granted);
        let reservation = |(server, record): (&ServerId, &'a AdmissionRecord)| Reservation {
            requirement: match &record.requirement {
                Estimate::Known(requirement) => requirement.as_ref(),
                Estimate::Pending => None,
            },
            resident: record.pid.and_then(|pid| reading.resident.get(&pid)).copied().unwrap_or(0),
            stage: pass.stages.get(server).copied().unwrap_or(ReservationStage::Starting),
        };
        granted.map(reservation).collect()
    }
}

impl AdmissionPass<'_> {
    /// What those who wait are waiting for.
    fn waits_for(&self) -> String {
        let ending = self.stages.iter().filter(|(_, stage)| stage.is_ending());
        let names: Vec<&str> = ending.map(|(server, _)| server.as_str()).collect();
        match names.as_slice() {
            [] => "others wait for memory already".to_owned(),
            [one] => format!("waits for the end of {one}"),
            many => format!("waits for the end of {}", many.join(", ")),
        }
    }
}

fn launch_released(server: &ServerId) -> SupervisorAction {
    SupervisorAction::Announce { server: server.clone(), event: Event::LaunchReleased }
}
