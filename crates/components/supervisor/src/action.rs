//! What the machine wants done, and what of it a slot asks for.

use std::time::Duration;

use llama_warden_events::{CommandOutcome, Event, FailureReason, Incarnation, Seq, ServerId, StopReason, Warning};

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq)]
pub enum SupervisorAction {
    /// Have a server launched.
    Launch {
        /// Which.
        server: ServerId,
        /// As which launch.
        incarnation: Incarnation,
    },
    /// Have a launch ended.
    Terminate {
        /// Which.
        server: ServerId,
        /// Which launch.
        incarnation: Incarnation,
        /// Why.
        reason: StopReason,
        /// Time before KILL, where it is not the configured one.
        grace: Option<Duration>,
    },
    /// Find out what a server will need of memory; [`on_estimated`](crate::SupervisorMachine::on_estimated) is told.
    EstimateMemory {
        /// Which.
        server: ServerId,
        /// Goes back with the answer.
        estimate_id: u64,
    },
    /// Find out what memory there is, and how much of it these processes hold;
    /// [`on_memory_read`](crate::SupervisorMachine::on_memory_read) is told.
    ReadMemory {
        /// Which processes.
        pids: Vec<u32>,
    },
    /// Tell something about a server, outside of any launch.
    Announce {
        /// Which.
        server: ServerId,
        /// What.
        event: Event,
    },
    /// Tell something about a launch.
    Tell {
        /// Which server.
        server: ServerId,
        /// Which launch.
        incarnation: Incarnation,
        /// What.
        event: Event,
    },
    /// Tell how a command ended.
    Complete {
        /// The server that it was about; absent for the whole fleet.
        server: Option<ServerId>,
        /// The command.
        id: Seq,
        /// How.
        outcome: CommandOutcome,
    },
    /// A server that left the configuration is down: forget it.
    Forget {
        /// Which.
        server: ServerId,
    },
    /// Tell that the fleet begins to go down.
    AnnounceStopping {
        /// What asked for it.
        trigger: String,
    },
    /// Tell that the fleet is down.
    AnnounceStopped {
        /// Servers that are still there at the deadline.
        survivors: Vec<ServerId>,
    },
}

/// What a slot wants done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ServerStateAction {
    Terminate { incarnation: Incarnation, reason: StopReason, grace: Option<Duration> },
    Complete { id: Seq, outcome: CommandOutcome },
    ScheduleRestart { incarnation: Incarnation, attempt: u32, delay: Duration },
    CancelRestart { incarnation: Incarnation },
    Warn { incarnation: Incarnation, detail: String },
    Refuse { incarnation: Incarnation, detail: String },
    AbandonRestart { incarnation: Incarnation, attempts: u32, because: String },
}

impl ServerStateAction {
    /// The same as an action of the machine.
    pub(crate) fn of(self, server: ServerId) -> SupervisorAction {
        match self {
            Self::Terminate { incarnation, reason, grace } => {
                SupervisorAction::Terminate { server, incarnation, reason, grace }
            }
            Self::Complete { id, outcome } => SupervisorAction::Complete { server: Some(server), id, outcome },
            Self::ScheduleRestart { incarnation, attempt, delay } => {
                let event = Event::RestartScheduled { attempt, delay_seconds: delay.as_secs_f64() };
                SupervisorAction::Tell { server, incarnation, event }
            }
            Self::Warn { incarnation, detail } => {
                let event = Event::ServerWarned { warning: Warning::MemoryShort, detail };
                SupervisorAction::Tell { server, incarnation, event }
            }
            Self::Refuse { incarnation, detail } => {
                let event = Event::ServerFailed { reason: FailureReason::Refused, detail, lines: Vec::new() };
                SupervisorAction::Tell { server, incarnation, event }
            }
            Self::CancelRestart { incarnation } => {
                SupervisorAction::Tell { server, incarnation, event: Event::RestartCancelled }
            }
            Self::AbandonRestart { incarnation, attempts, because } => {
                SupervisorAction::Tell { server, incarnation, event: Event::RestartAbandoned { attempts, because } }
            }
        }
    }
}
