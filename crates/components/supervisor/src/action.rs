//! The actions that the machine returns to its component.

use std::time::Duration;

use llama_warden_backoff::FaultyFile;
use llama_warden_events::{CommandOutcome, Event, Incarnation, Seq, ServerId, StopReason};
use llama_warden_room::AdmissionAction;

/// The actions for one input, in order.
pub(crate) type Actions = Vec<SupervisorAction>;

/// One step that [`SupervisorMachine`](crate::SupervisorMachine) wants done, in the order in which it is returned.
#[derive(Debug, Clone, PartialEq)]
pub enum SupervisorAction {
    /// Ask the launcher to launch a server.
    Launch {
        /// The server to launch.
        server: ServerId,
        /// The number of the new launch, one above the last.
        incarnation: Incarnation,
    },
    /// Ask the terminator to stop a launch.
    Terminate {
        /// The server to stop.
        server: ServerId,
        /// The launch to stop; a later launch of the server is left alone.
        incarnation: Incarnation,
        /// The reason that the events of the stop carry.
        reason: StopReason,
        /// Time before KILL; `None` is the configured grace, zero kills at once.
        grace: Option<Duration>,
    },
    /// Ask the router to send no further request to a launch. The answer goes to
    /// [`on_release_answered`](crate::SupervisorMachine::on_release_answered).
    Release {
        /// The server.
        server: ServerId,
        /// The launch.
        incarnation: Incarnation,
        /// The time for requests in flight; zero asks for a release only where there are none.
        drain: Duration,
    },
    /// Ask the router to send requests to a launch again.
    Reopen {
        /// The server.
        server: ServerId,
        /// The launch.
        incarnation: Incarnation,
    },
    /// Estimate how much memory a server will need. The answer goes to
    /// [`on_estimated`](crate::SupervisorMachine::on_estimated).
    EstimateMemory {
        /// The server to estimate.
        server: ServerId,
        /// Returned with the answer, so that the machine can drop an outdated one.
        estimate_id: u64,
    },
    /// Read how much memory is available, and how much of it these processes hold. The answer goes to
    /// [`on_memory_read`](crate::SupervisorMachine::on_memory_read).
    ReadMemory {
        /// Processes of servers that were granted their launch.
        pids: Vec<u32>,
    },
    /// Look at the file that a launch failed for, until it changes. The change goes to
    /// [`on_file_changed`](crate::SupervisorMachine::on_file_changed).
    WatchFile {
        /// The server that failed.
        server: ServerId,
        /// The launch that failed.
        incarnation: Incarnation,
        /// The file.
        file: FaultyFile,
    },
    /// Publish an event.
    Publish {
        /// The server that it is about; `None` for the daemon as a whole.
        server: Option<ServerId>,
        /// The launch that it is about; `None` where it is about no single launch.
        incarnation: Option<Incarnation>,
        /// The event, without the envelope that the sequencer adds.
        event: Event,
    },
    /// Publish `CommandCompleted`, with the command itself as the cause.
    Complete {
        /// The server that the command was about; `None` for the whole fleet.
        server: Option<ServerId>,
        /// The `seq` of the command's `CommandAccepted`.
        id: Seq,
        /// The result that the sender of the command reads.
        outcome: CommandOutcome,
    },
}

impl From<AdmissionAction> for SupervisorAction {
    fn from(action: AdmissionAction) -> Self {
        match action {
            AdmissionAction::EstimateMemory { server, estimate_id } => Self::EstimateMemory { server, estimate_id },
            AdmissionAction::ReadMemory { pids } => Self::ReadMemory { pids },
            AdmissionAction::Publish { server, event } => Self::publish_server(server, event),
        }
    }
}

impl SupervisorAction {
    /// Publishes an event about the daemon.
    pub(crate) const fn publish_daemon(event: Event) -> Self {
        Self::Publish { server: None, incarnation: None, event }
    }

    /// Publishes an event about a server, whatever its launch.
    pub(crate) const fn publish_server(server: ServerId, event: Event) -> Self {
        Self::Publish { server: Some(server), incarnation: None, event }
    }
}
