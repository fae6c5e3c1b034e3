//! Admission of launches by memory.
//!
//! A launch needs two answers, which the caller fetches beside its loop: once an estimate of what the server will need,
//! then a reading of what is available. A launch that is granted holds a reservation until its server is down. A launch
//! that does not fit yet is held, and decided again whenever memory is given back and every [`RECHECK`].
//!
//! Invariants:
//!
//! * Launches are decided in the order of the requests, and none takes the memory that an earlier one waits for.
//! * Nothing is decided by a reading that was requested before memory was given back.
//! * `LaunchHeld` is published once for a launch that waits, and always followed by `LaunchReleased`.

use std::collections::BTreeMap;
use std::time::Duration;

use llama_warden_config::AdmissionPolicy;
use llama_warden_events::{Event, ServerId, Uptime};
use llama_warden_memory::{MemoryRequirement, Reading};

use crate::budget::{Reservation, ReservationStage};

mod pass;

pub use pass::AdmissionPass;

/// How often memory is read again while a launch is held: processes that are not ours give memory back too.
pub(crate) const RECHECK: Duration = Duration::from_secs(1);

/// How long a GPU driver may take to free the memory of a process that is gone. The kernel frees a process's own memory
/// before its exit can be seen, a driver may do so later.
pub(crate) const GPU_RELEASE: Duration = Duration::from_secs(5);

/// One step that admission wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum AdmissionAction {
    /// Estimate how much memory a server will need. The answer goes to [`Admission::on_estimated`].
    EstimateMemory {
        /// The server to estimate.
        server: ServerId,
        /// Returned with the answer, so that an outdated one can be dropped.
        estimate_id: u64,
    },
    /// Read how much memory is available, and how much of it these processes hold. Whether the answer may be used says
    /// [`Admission::on_reading`].
    ReadMemory {
        /// Processes of servers that were granted their launch.
        pids: Vec<u32>,
    },
    /// Publish an event about a server.
    Publish {
        /// The server.
        server: ServerId,
        /// The event.
        event: Event,
    },
}

/// The decision about a launch that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdmissionDecision {
    /// Launch it, with a warning where the memory may not suffice.
    Granted {
        /// What the memory may not suffice for, in words.
        warning: Option<String>,
    },
    /// Fail it: memory does not suffice, and nothing is under way that would free enough.
    Refused {
        /// What is missing, in words.
        detail: String,
    },
    /// Decide again later: an answer is missing, or the launch is held.
    Waiting,
}

/// The memory of all servers that have a launch, or wait for one.
#[derive(Debug)]
pub struct Admission {
    policy: AdmissionPolicy,
    records: BTreeMap<ServerId, AdmissionRecord>,
    last_estimate_id: u64,
    reading: ReadingState,
    /// Whether available memory may have changed since the last reading, so that held launches deserve another one.
    is_dirty: bool,
    recheck_at: Option<Uptime>,
    /// When a server with memory of GPUs last went down.
    gpus_freed_at: Option<Uptime>,
}

/// The launch of one server, from the moment it is due to the end of its process.
#[derive(Debug)]
struct AdmissionRecord {
    /// The request for the estimate. An answer with another id is about an earlier launch.
    estimate_id: u64,
    estimate: Estimate,
    state: AdmissionState,
    /// The process, once it is spawned; a reading contains how much it has allocated already.
    pid: Option<u32>,
}

#[derive(Debug)]
enum Estimate {
    Pending,
    /// `None` where no estimate is possible.
    Known(Option<MemoryRequirement>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AdmissionState {
    /// Due, and not decided yet.
    Due,
    /// Decided, and waiting for memory that is about to be freed.
    Held,
    /// Launched; its memory is reserved.
    Granted,
}

/// The request for a reading of the available memory. One at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadingState {
    Idle,
    Requested,
    /// Requested before memory was given back: the answer is dropped and another reading requested.
    Outdated,
}

impl Admission {
    /// Nothing is launched, and nothing waits.
    pub const fn new(policy: AdmissionPolicy) -> Self {
        Self {
            policy,
            records: BTreeMap::new(),
            last_estimate_id: 0,
            reading: ReadingState::Idle,
            is_dirty: false,
            recheck_at: None,
            gpus_freed_at: None,
        }
    }

    /// Grants a launch that needs no decision, since its process is there: it holds what it needs. The end of the process gives memory
    /// back as that of any other, and until it is ready, what it has not allocated yet is reserved.
    pub fn adopt<A: From<AdmissionAction>>(&mut self, server: &ServerId, actions: &mut Vec<A>) {
        if self.policy != AdmissionPolicy::Off {
            self.request_estimate(server, AdmissionState::Granted, actions);
        }
    }

    /// Notes the process of a launch that was granted.
    pub fn on_spawned(&mut self, server: &ServerId, pid: u32) {
        if let Some(record) = self.records.get_mut(server).filter(|record| record.state == AdmissionState::Granted) {
            record.pid = Some(pid);
        }
    }

    /// Takes the answer to `EstimateMemory`, unless it is about an earlier launch.
    pub fn on_estimated<A: From<AdmissionAction>>(
        &mut self,
        server: &ServerId,
        estimate_id: u64,
        requirement: Option<MemoryRequirement>,
        actions: &mut Vec<A>,
    ) {
        let record = self.records.get_mut(server).filter(|record| record.estimate_id == estimate_id);
        let Some(record) = record else { return };
        if let Some(requirement) = &requirement {
            let event = Event::MemoryEstimated { estimate: requirement.card() };
            actions.push(AdmissionAction::Publish { server: server.clone(), event }.into());
        }
        record.estimate = Estimate::Known(requirement);
    }

    /// Takes the answer to `ReadMemory`, and says whether it may be used.
    pub fn on_reading(&mut self) -> bool {
        let is_fresh = self.reading == ReadingState::Requested;
        self.reading = ReadingState::Idle;
        self.is_dirty |= !is_fresh;
        is_fresh
    }

    /// Memory was given back, or allocated as reserved: held launches deserve another reading, and one that is under way
    /// is outdated, since it may have been taken before.
    pub fn mark_dirty(&mut self) {
        self.is_dirty = true;
        if self.reading == ReadingState::Requested {
            self.reading = ReadingState::Outdated;
        }
    }

    /// When [`Self::on_deadline`] has something to do; `None` is never.
    pub const fn next_deadline(&self) -> Option<Uptime> {
        self.recheck_at
    }

    /// Memory is read again for launches that are held.
    pub fn on_deadline(&mut self, now: Uptime) {
        // A reading under way stays usable, unlike in `mark_dirty`: nothing is known to have changed.
        self.is_dirty |= self.recheck_at.take_if(|at| *at <= now).is_some();
    }

    /// Ends the reservation of a server that is down, or the wait of a launch that is no longer due.
    pub fn release<A: From<AdmissionAction>>(&mut self, server: &ServerId, now: Uptime, actions: &mut Vec<A>) {
        let Some(record) = self.records.remove(server) else { return };
        match record.state {
            AdmissionState::Due => {}
            AdmissionState::Held => actions.push(launch_released(server)),
            AdmissionState::Granted => {
                if matches!(&record.estimate, Estimate::Known(Some(requirement)) if requirement.gpus.total() > 0) {
                    self.gpus_freed_at = Some(now);
                }
                self.mark_dirty();
            }
        }
    }

    /// The servers with a launch that was granted (`true`) or waits for a decision (`false`).
    pub fn tracked(&self) -> impl Iterator<Item = (&ServerId, bool)> {
        self.records.iter().map(|(server, record)| (server, record.state == AdmissionState::Granted))
    }

    /// The size of a server's model, where it is known.
    pub fn weights(&self, server: &ServerId) -> u64 {
        let record = self.records.get(server);
        let Some(Estimate::Known(Some(requirement))) = record.map(|record| &record.estimate) else { return 0 };
        requirement.host.weights.saturating_add(requirement.gpus.weights)
    }

    fn request_estimate<A: From<AdmissionAction>>(
        &mut self,
        server: &ServerId,
        state: AdmissionState,
        actions: &mut Vec<A>,
    ) {
        self.last_estimate_id += 1;
        let (estimate_id, estimate) = (self.last_estimate_id, Estimate::Pending);
        self.records.insert(server.clone(), AdmissionRecord { estimate_id, estimate, state, pid: None });
        actions.push(AdmissionAction::EstimateMemory { server: server.clone(), estimate_id }.into());
    }

    /// The memory that granted launches hold.
    fn reservations<'a>(&'a self, pass: &AdmissionPass<'_>, reading: &Reading) -> Vec<Reservation<'a>> {
        let granted = self.records.iter().filter(|(_, record)| record.state == AdmissionState::Granted);
        let reservation = |(server, record): (&ServerId, &'a AdmissionRecord)| Reservation {
            requirement: match &record.estimate {
                Estimate::Known(requirement) => requirement.as_ref(),
                Estimate::Pending => None,
            },
            resident: record.pid.and_then(|pid| reading.resident.get(&pid)).copied().unwrap_or(0),
            stage: pass.stages.get(server).copied().unwrap_or(ReservationStage::Starting),
        };
        granted.map(reservation).collect()
    }
}

fn launch_released<A: From<AdmissionAction>>(server: &ServerId) -> A {
    AdmissionAction::Publish { server: server.clone(), event: Event::LaunchReleased }.into()
}
